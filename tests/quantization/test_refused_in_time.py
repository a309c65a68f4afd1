"""What no file can hold is said when a model is quantized, before it is trained, with what to do."""

from __future__ import annotations

import ast
import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from resnet_backbones.quantization import quantization_of
from resnet_backbones.quantization.hooks import quantizers_of

layers = keras.layers
IMAGES = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype("float32")
SCHEMES = ["edge_int8", "gpu_int8", "portable_int8", "edge_int16x8"]


def network(middle, size=8):
    image = layers.Input((size, size, 3))
    return keras.Model(image, layers.Conv2D(3, 1)(middle(layers.Conv2D(4, 3, padding="same")(image))), name="network")


def refused(model, words, scheme="edge_int8"):
    with pytest.raises(ValueError, match=words):
        rb.quantize_aware(model, scheme)
    assert quantization_of(model) is None


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64"])
def test_variables_that_are_not_float32(policy, scheme):
    half = layers.Conv2D(4, 3, dtype=policy, name="half")
    refused(network(half), f"^half of 'network' have the dtype policy {policy}.*'mixed_float16'", scheme)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_variables_in_float32(policy):
    assert rb.quantize_aware(network(layers.Conv2D(4, 3, dtype=policy)), calibration_data=IMAGES)


IN_TRAINING = {
    "Dropout": (lambda: layers.Dropout(0.5, name="it"), "draws random numbers"),
    "SpatialDropout2D": (lambda: layers.SpatialDropout2D(0.5, name="it"), "draws random numbers"),
    "GaussianNoise": (lambda: layers.GaussianNoise(0.5, name="it"), "draws random numbers"),
    "RandomContrast": (lambda: layers.RandomContrast(0.5, name="it"), "draws random numbers"),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", IN_TRAINING)
def test_a_layer_called_in_training_for_good(kind, scheme):
    made, words = IN_TRAINING[kind]
    if IS_KERAS_3:  # which runs such a layer in inference where the model is
        model = rb.quantize_post_training(network(lambda x: made()(x, training=True)), scheme, calibration_data=IMAGES)
        assert np.array_equal(model(IMAGES, training=False), model(IMAGES, training=False))
        return
    refused(network(lambda x: made()(x, training=True)), f"'it' of 'network' {words}.*without training=True", scheme)


@pytest.mark.skipif(IS_KERAS_3, reason="Keras 3 runs such a layer in inference where the model is")
def test_a_batch_norm_called_in_training_for_good(tmp_path):
    """Training may go on, and a schedule freeze it; no file can hold it."""
    model = network(lambda x: layers.BatchNormalization(name="it")(x, training=True))
    words = "'it' of 'network' changes its variables.*without training=True"
    with pytest.warns(UserWarning, match=words):
        rb.quantize_aware(model, calibration_data=IMAGES)
    with pytest.raises(ValueError, match=words):
        rb.export_model(model, tmp_path / "m.tflite")


def test_a_recurrent_layer_that_keeps_its_state():
    image = layers.Input((8, 8, 3), batch_size=4)
    rows = layers.Reshape((8, 32))(layers.Conv2D(4, 3, padding="same")(image))
    model = keras.Model(image, layers.Dense(3)(layers.LSTM(4, stateful=True)(rows)), name="network")
    refused(model, "changes its variables.*stateful=False")


NOWHERE = {"svd": lambda x: tf.linalg.svd(x, compute_uv=False)[..., None], "qr": lambda x: tf.linalg.qr(x)[0]}
ONE_FORMAT = {
    "adjust_contrast": (lambda x: tf.image.adjust_contrast(x, 2.0), "LiteRT", "ONNX"),
    "asin": (lambda x: tf.asin(tf.clip_by_value(x, -1.0, 1.0)), "LiteRT", "ONNX"),
    "xlogy": (lambda x: tf.math.xlogy(x, x * x + 1.0), "ONNX", "LiteRT"),
}


@pytest.mark.parametrize("scheme", ["edge_int8", "gpu_int8"])
@pytest.mark.parametrize("kind", NOWHERE)
def test_operations_that_no_format_has(kind, scheme):
    model = network(layers.Lambda(NOWHERE[kind], name="odd"))
    refused(model, "odd.*no layer, of 'network' computes .*no form. Replace it", scheme)


@pytest.mark.parametrize("kind", ONE_FORMAT)
def test_operations_that_one_format_has(kind):
    function, without, other = ONE_FORMAT[kind]
    model = network(layers.Lambda(function))
    with pytest.warns(UserWarning, match=f"of which {without} have no form: replace it, or export to {other} alone"):
        rb.quantize_aware(model, "portable_int8")
    if without == "ONNX":
        refused(network(layers.Lambda(function)), "of which ONNX have no form. Replace it", "gpu_int8")


def test_what_is_computed_for_nothing_is_no_reason():
    model = network(layers.Lambda(lambda x: (tf.linalg.svd(x), x)[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rb.quantize_aware(model)


RECURRENT = ["LSTM", "GRU", "SimpleRNN"]


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_layer_is_said_to_stay_in_float_unless_it_is_excluded(kind):
    def made():
        rows = lambda x: layers.Reshape((8, 32))(x)  # noqa: E731
        image = layers.Input((8, 8, 3))
        recurrent = getattr(layers, kind)(4, name="recurrent")
        return keras.Model(image, layers.Dense(3)(recurrent(rows(layers.Conv2D(4, 3, padding="same")(image)))))

    with pytest.warns(UserWarning, match=f"no quantization rule for {kind}"):
        rb.quantize_aware(made())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rb.quantize_aware(made(), exclude=["recurrent"])


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_upsampling_at_an_open_size(kind, tmp_path):
    enlarge = layers.UpSampling2D(interpolation=kind, name="enlarge")
    if IS_KERAS_3:  # whose resizing compares sizes, which a graph does not know
        refused(network(enlarge, None), "'enlarge' of 'network' does not run .* open size.*inputs of a fixed size")
        return
    model = rb.quantize_post_training(network(enlarge, None), calibration_data=IMAGES)
    report = rb.export_model(model, tmp_path / "m.tflite", input_shape=(8, 8, 3), parity_data=IMAGES)
    assert all(entry.within_two_steps > 0.99 for entry in report.parity)


WITHOUT_16_BITS = {
    "sigmoid": lambda x: layers.Conv2D(4, 1, activation="sigmoid")(x),
    "softmax": lambda x: layers.Softmax()(x),
    "tanh": lambda x: layers.Activation("tanh")(x),
    "silu": lambda x: layers.Activation("swish")(x),
    "gelu": lambda x: layers.Activation("gelu")(x),
    "prelu": lambda x: layers.PReLU(shared_axes=(1, 2))(x),
    "concatenation": lambda x: layers.Conv2D(3, 1)(layers.Concatenate()([x, layers.Conv2D(4, 1)(x)])),
    "average": lambda x: layers.Average()([x, layers.Conv2D(4, 1)(x)]),
    "two heads": lambda x: layers.Add()([layers.Activation("tanh")(x), layers.Activation("sigmoid")(x)]),
}


def advised(error):
    """The arguments that a refusal of 16 bits recommends."""
    found = re.findall(r"(override|exclude)=(\{.*?\}\}|\[.*?\])", str(error))
    return {name: ast.literal_eval(value) for name, value in found}


@pytest.mark.parametrize("kind", WITHOUT_16_BITS)
def test_following_the_advice_about_16_bits_exports(kind, tmp_path):
    def made():
        keras.backend.clear_session()  # so that layers have the same names each time
        keras.utils.set_random_seed(1)
        return network(WITHOUT_16_BITS[kind])

    with pytest.raises(ValueError, match="no int16 form") as caught:
        rb.quantize_aware(made(), "edge_int16x8")
    model = rb.quantize_post_training(made(), "edge_int16x8", calibration_data=IMAGES, **advised(caught.value))
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=IMAGES)
    assert report.int8_mac_share == 1.0
    assert report.parity[0].cosine > 0.999


@pytest.mark.parametrize("scheme", ["edge_int8", "portable_int8"])
@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "SeparableConv2D"])
@pytest.mark.parametrize("activation", ["relu", layers.ReLU, layers.LeakyReLU], ids=["named", "relu", "leaky"])
def test_depthwise_convolutions_with_channels_first(kind, activation, scheme):
    """An activation that is a layer does not make them a layer of layers."""
    count = (4, 3) if kind == "SeparableConv2D" else (3,)
    given = activation if isinstance(activation, str) else activation()
    made = getattr(layers, kind)(*count, data_format="channels_first", activation=given, name="it")
    refused(network(made), "^it: LiteRT has no depthwise or separable convolution.*'gpu_int8'", scheme)


@pytest.mark.parametrize("scheme", ["gpu_int8", "edge_int8"])
def test_a_layer_without_a_form_stays_in_float_with_its_activation(scheme):
    model = network(layers.Conv2D(4, 3, data_format="channels_first", activation=layers.ReLU(), name="it"))
    with pytest.warns(UserWarning, match="it.*channels_first"):
        rb.quantize_aware(model, scheme)
    assert quantizers_of(model)
    assert not quantizers_of(model.get_layer("it"))
