"""What the passes do to small graphs, compared with Keras."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import resnet_backbones as rb
from resnet_backbones.export.onnx.convert import quantization_parameters
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import context

layers = keras.layers


def model_of(*stack, size=16):
    inputs = outputs = keras.Input((size, size, 3))
    for layer in stack:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.transpose(0, 3, 1, 2)})[0]


def quantized(model, images, scheme="portable_int8", **options):
    rb.quantize_post_training(model, scheme, calibration_data=images, **options)
    return model


def kinds(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")


def batch_norm(gamma, filters):
    """A batch norm with these scales and other statistics than it starts with."""
    norm = layers.BatchNormalization()
    norm.build((None, None, None, filters))
    norm.gamma.assign(np.resize(gamma, filters))
    norm.beta.assign(np.linspace(-0.5, 0.5, filters))
    norm.moving_mean.assign(np.linspace(-0.2, 0.3, filters))
    norm.moving_variance.assign(np.linspace(0.5, 2.0, filters))
    return norm


@pytest.mark.parametrize("target", ["tensorrt", "onnxruntime"])
def test_negative_zero_and_tiny_batch_norm_scales(target, noise, tmp_path):
    norm = batch_norm([1.0, -0.7, 0.0, 1e-9], 8)
    model = quantized(model_of(layers.Conv2D(8, 3, use_bias=False), norm, layers.ReLU(), layers.Conv2D(4, 1)), noise)
    rb.export_model(model, tmp_path / "a.onnx", target=target, batch=None)
    constants = {e.name: numpy_helper.to_array(e) for e in onnx.load(tmp_path / "a.onnx").graph.initializer}
    scales = [value for name, value in constants.items() if name.endswith("scale")]
    assert all(np.all(scale > 0) and np.all(np.isfinite(scale)) for scale in scales)
    with context.use_view("tensorrt" if target == "tensorrt" else "litert"):
        expected = np.asarray(model(noise, training=False))
    step = 2 * np.abs(expected).max() / 254
    assert np.abs(run(tmp_path / "a.onnx", noise) - expected).max() <= 2 * step


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", strides=2),
        lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
        lambda: layers.SeparableConv2D(4, 3, padding="same"),
        lambda: layers.Conv2D(6, 3, groups=3),
        lambda: layers.Conv2D(6, 3, groups=3, dilation_rate=2),
        lambda: layers.DepthwiseConv2D(3, dilation_rate=2),
        lambda: layers.SeparableConv2D(4, 3, dilation_rate=2, padding="same"),
        lambda: layers.UpSampling2D(2),
        lambda: layers.UpSampling2D(2, interpolation="bilinear"),
        lambda: layers.ZeroPadding2D(((1, 2), (0, 3))),
    ],
)
@pytest.mark.parametrize(
    ("target", "scheme"), [("tensorrt", "gpu_int8"), ("tensorrt", "portable_int8"), ("onnxruntime", "portable_int8")]
)
def test_layers_in_the_middle(layer, target, scheme, noise, tmp_path):
    keras.utils.set_random_seed(1)
    stack = [layers.Conv2D(3, 3, activation="relu"), layer(), layers.Conv2D(4, 3)]
    model = quantized(model_of(*stack), noise, rb.quantization.get_scheme(scheme).replace(float_outputs=False))
    report = rb.export_model(model, tmp_path / "a.onnx", target=target, batch=None, parity_data=noise)
    assert target != "tensorrt" or not rb.export.tensorrt.check(tmp_path / "a.onnx").of("error")
    assert report.parity[0].cosine > 0.9995
    assert report.int8_mac_share == 1.0
    assert report.kernels.compared == report.kernels.equal >= 2


def test_padding_is_merged_into_convolution_and_pooling(noise, tmp_path):
    stack = [
        layers.ZeroPadding2D(1),
        layers.Conv2D(4, 3, strides=2, activation="relu"),
        layers.ZeroPadding2D(1),
        layers.MaxPooling2D(3, 2),
        layers.ZeroPadding2D(1),
        layers.DepthwiseConv2D(3),
    ]
    rb.export_model(quantized(model_of(*stack), noise), tmp_path / "a.onnx")
    assert "Pad" not in kinds(tmp_path / "a.onnx")


@pytest.mark.parametrize("batch", [1, None])
@pytest.mark.parametrize(("target", "scheme"), [("tensorrt", "gpu_int8"), ("onnxruntime", "edge_int8")])
def test_efficient_channel_attention_transposes_no_images(target, scheme, batch, noise, tmp_path):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    gate = layers.Reshape((8, 1, 1))(layers.GlobalAveragePooling2D(keepdims=True)(x))
    gate = layers.Activation("sigmoid")(layers.Conv2D(1, (3, 1), padding="same")(gate))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 8))(gate)])
    model = quantized(keras.Model(inputs, layers.Conv2D(4, 3)(layers.Conv2D(4, 3)(x))), noise, scheme)
    report = rb.export_model(model, tmp_path / "a.onnx", target=target, batch=batch, parity_data=noise)
    assert kinds(tmp_path / "a.onnx").count("Transpose") == 1  # of what is returned
    assert report.parity[0].cosine > 0.9995
    assert target != "tensorrt" or not rb.export.tensorrt.check(tmp_path / "a.onnx").of("error")


def test_hard_sigmoid_is_one_operator(noise, tmp_path):
    stack = [layers.Conv2D(4, 3), layers.Activation("hard_sigmoid"), layers.Conv2D(4, 3)]
    report = rb.export_model(model_of(*stack), tmp_path / "a.onnx", parity_data=noise[:1])
    assert kinds(tmp_path / "a.onnx").count("HardSigmoid") == 1
    assert "Clip" not in kinds(tmp_path / "a.onnx")
    assert report.parity[0].max_steps < 1e-5


@pytest.mark.parametrize("target", ["tensorrt", "onnxruntime"])
def test_dense_is_a_gemm_in_int8(target, noise, tmp_path):
    stack = [layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(5), layers.Softmax()]
    model = quantized(model_of(*stack), noise)
    report = rb.export_model(model, tmp_path / "a.onnx", target=target, batch=None, parity_data=noise)
    assert report.operators["Gemm", "int8"] == 1
    assert report.parity[0].cosine > 0.9995


def test_kernels_of_four_bits_are_stored_on_their_grid(noise, tmp_path):
    stack = [layers.Conv2D(4, 3, activation="relu", name="first"), layers.Conv2D(4, 3)]
    model = quantized(model_of(*stack), noise, override={"first": {"kernel_bits": 4}})
    report = rb.export_model(model, tmp_path / "a.onnx", batch=None, parity_data=noise)
    assert report.kernels.compared == report.kernels.equal == 2
    assert report.parity[0].cosine > 0.9995


def test_parameters_are_those_of_fake_quantization():
    assert quantization_parameters(-1.27, 1.27, 8, True)[1] == 128
    scale, zero = quantization_parameters(-0.1, 2.45, 8, False)
    assert zero == 10
    assert scale == pytest.approx(0.01)
