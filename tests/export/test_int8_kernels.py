"""The integers in the file are those training saw: every kind of kernel, read back and compared."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.export.litert.flatbuffer import read_model
from resnet_backbones.keras_compat import DEPTHWISE_KERNEL, keras
from resnet_backbones.quantization import hooks_of, kernel_quantizer
from resnet_backbones.quantization.quantizers import read
from tests.support.nets import images, randomise

layers = keras.layers


@pytest.fixture(scope="module")
def net():
    """Kernels of every kind, no two of the same shape in the file, half of the batch norms' scales negative."""
    keras.utils.set_random_seed(0)
    image = layers.Input((16, 16, 3))

    def normed(layer, x):
        x = layers.BatchNormalization(name=f"{layer.name}_bn")(layer(x))
        return layers.ReLU()(x)

    x = normed(layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv"), image)
    x = normed(layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise"), x)
    x = normed(layers.Conv2D(10, 3, padding="same", groups=2, use_bias=False, name="grouped"), x)
    x = normed(layers.SeparableConv2D(12, 5, padding="same", use_bias=False, name="separable"), x)
    x = normed(layers.Conv2DTranspose(6, 3, 2, padding="same", use_bias=False, name="transposed"), x)
    x = layers.Conv2D(7, 1, activation="relu", name="biased")(x)
    model = randomise(keras.Model(image, layers.Dense(5, name="dense")(x)))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma = layer.gamma.numpy()
            layer.gamma.assign(np.where(np.arange(len(gamma)) % 2, -gamma, gamma))
        elif layer.weights:  # channels of very different size
            kernel = layer.weights[0]
            kernel.assign(kernel.numpy() * np.random.default_rng(1).uniform(0.05, 2.0, kernel.shape[-1]))
    rb.quantize_post_training(model, calibration_data=images(8, 16, 16, 3))
    return model


@pytest.fixture(scope="module", params=["given as int16", "too large for that"])
def constants(request, net, tmp_path_factory):
    """Shape -> (integers, scales) of every kernel in the file."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "too large for that":
            patch.setattr(kernel_quantizer, "MOST_FOLDED", 0)
        report = rb.export_model(net, tmp_path_factory.mktemp("kernels") / "it.tflite")
    model = read_model(report.path.read_bytes())
    found = {}
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and len(tensor.shape) in (2, 4) and tensor.quantization.scale is not None:
            shape = tuple(int(size) for size in tensor.shape)
            integers = np.frombuffer(bytes(data), np.int8).reshape(shape)
            found[shape] = integers, np.asarray(tensor.quantization.scale), tensor.quantization.quantizedDimension
    return found


KERNELS = {
    "conv": ("kernel", "conv_bn"),
    "depthwise": (DEPTHWISE_KERNEL, "depthwise_bn"),
    "grouped": ("kernel", "grouped_bn"),
    "separable": ("pointwise_kernel", "separable_bn"),
    "separable, first": ("depthwise_kernel", None),
    "transposed": ("kernel", "transposed_bn"),
    "biased": ("kernel", None),
    "dense": ("kernel", None),
}
# Keras' layout -> the file's, channels of the result first (last for depthwise kernels).
CONVOLUTION, TRANSPOSED, DEPTHWISE, MATRIX = (3, 0, 1, 2), (2, 0, 1, 3), None, (1, 0)
LAYOUTS = {"depthwise": DEPTHWISE, "separable, first": DEPTHWISE, "transposed": TRANSPOSED, "dense": MATRIX}


def in_the_file_s_layout(kind, values):
    order = LAYOUTS.get(kind, CONVOLUTION)
    return values.reshape(1, *values.shape[:2], -1) if order is DEPTHWISE else np.transpose(values, order)


@pytest.mark.parametrize("kind", KERNELS)
def test_a_kernel_has_the_integers_and_the_scales_that_training_saw(kind, net, constants):
    attribute, norm = KERNELS[kind]
    (hook,) = [hook for hook in hooks_of(net) if hook.layer.name == kind.split(",")[0]]
    ((variable, quantizer),) = [entry for name, entry in hook.kernels.items() if name.strip("_") == attribute]
    kernel = read(variable)
    bound = np.max(np.abs(kernel), axis=quantizer.axes, keepdims=True)
    integers = in_the_file_s_layout(kind, np.round(np.asarray(quantizer(variable)) / (bound / 127)))
    assert np.abs(integers).max() == 127
    axis = 3 if LAYOUTS.get(kind, CONVOLUTION) is DEPTHWISE else 0
    scales = bound.astype(np.float64).reshape(-1) / 127
    if norm is not None:
        norm = net.get_layer(norm)
        factor = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy().astype(np.float64) + norm.epsilon)
        assert (factor < 0).any()
        integers = integers * np.sign(factor).reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
        scales = scales * np.abs(factor)
    found, found_scales, found_axis = constants[integers.shape]
    assert found_axis == axis
    np.testing.assert_array_equal(found, integers)
    np.testing.assert_allclose(found_scales, scales, rtol=1e-6)


SMALL_RESNEXT = {"depths": (1, 1), "widths": (8, 16), "groups": 4}


@pytest.mark.parametrize("file", ["it.tflite", "it.onnx"])
@pytest.mark.parametrize(
    ("name", "changes", "kernels"),
    [
        ("resnext50_32x4d", SMALL_RESNEXT, 9),  # convolutions in groups
        ("mobilenetv3_small_050", {}, 52),  # gates whose shift is a convolution of its own in LiteRT
    ],
)
def test_all_kernels_of_a_network_are_found(name, changes, kernels, file, tmp_path):
    backbone = rb.create_backbone(name, input_shape=(32, 32, 3), **changes)
    model = rb.quantize_post_training(randomise(backbone), "portable_int8", calibration_data=images(4, 32, 32, 3))
    report = rb.export_model(model, tmp_path / file, parity_data=images(2, 32, 32, 3))
    assert report.kernels.missing == report.kernels.different == []
    assert report.kernels.compared == kernels
    assert report.int8_mac_share == 1.0


@pytest.mark.parametrize("file", ["it.tflite", "it.onnx"])
def test_a_kernel_is_found_where_a_bare_sum_with_a_number_follows(file, tmp_path):
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="relu")(image)
    gate = layers.Conv2D(4, 1, name="gate", bias_initializer="normal")(x)
    gate = layers.ReLU(6.0)(gate + 3.0) * (1.0 / 6.0)  # the hard sigmoid of keras.applications' MobileNetV3
    model = keras.Model(image, layers.Conv2D(4, 3)(layers.Multiply()([x, gate])))
    rb.quantize_post_training(model, "portable_int8", calibration_data=images(4, 16, 16, 3))
    report = rb.export_model(model, tmp_path / file, parity_data=images(2, 16, 16, 3))
    assert report.kernels.missing == report.kernels.different == []
    assert report.kernels.compared == 3
