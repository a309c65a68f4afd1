"""16-bit tensors with numbers and arrays between layers, and operations outside of layers that 16 bits lack."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from resnet_backbones.keras_compat.operations import operations_of
from resnet_backbones.quantization import quantization_of
from tests.support.nets import images

layers = keras.layers
PICTURES = images(8, 6, 6, 3)
CHANNELS = np.array([[[[0.5, -1.0, 0.25, 2.0]]]], "float32")
PIXELS = np.random.default_rng(3).normal(size=(1, 4, 4, 4)).astype("float32")
WITH = {"a number": -0.3, "zero": 0.0, "one": 1.0, "a number a channel": CHANNELS}
WITH["a number a value"] = PIXELS
of = keras.ops if IS_KERAS_3 else tf
FORMS = {
    "x + n": lambda x, n: x + n,
    "n + x": lambda x, n: of.add(n, x),
    "x - n": lambda x, n: x - n,
    "n - x": lambda x, n: of.subtract(n, x),
    "x * n": lambda x, n: x * n,
    "n * x": lambda x, n: of.multiply(n, x),
}
BEFORE = {
    "conv": layers.Conv2D,
    "max pool": lambda *sizes: lambda x: layers.MaxPooling2D(2, 1, "same")(layers.Conv2D(*sizes)(x)),
    "average pool": lambda *sizes: lambda x: layers.AveragePooling2D(2, 1, "same")(layers.Conv2D(*sizes)(x)),
    "sum": lambda *sizes: lambda x: layers.Add()([layers.Conv2D(*sizes)(x), layers.Conv2D(*sizes)(x)]),
}
AFTER = {
    "returned": lambda x: x,
    "conv": lambda x: layers.Conv2D(3, 1)(x),
    "relu": lambda x: layers.ReLU()(x),
    "the like": lambda x: 1.0 - x * 0.5,
}


def exported(model, path, **how):
    rb.quantize_post_training(model, "edge_int16x8", calibration_data=PICTURES, **how)
    return rb.export_model(model, path / "m.tflite", parity_data=PICTURES)


def network(middle, before=BEFORE["conv"]):
    image = layers.Input((6, 6, 3))
    return keras.Model(image, layers.Conv2D(3, 1)(middle(before(4, 3)(image))), name="network")


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("before", BEFORE)
def test_numbers(before, after, tmp_path):
    """Each form with each number in one model, where operators share numbers, too.

    Convolutions of 16 bits are a step off here and there, of which smaller steps after them make several.
    """
    keras.utils.set_random_seed(0)
    image = layers.Input((6, 6, 3))
    x = BEFORE[before](4, 3)(image)
    model = keras.Model(image, [AFTER[after](form(x, n)) for form in FORMS.values() for n in WITH.values()])
    report = exported(model, tmp_path)
    assert not report.float_operators
    assert max(part.mean_steps for part in report.parity) < 0.7
    assert report.passed or after in ("conv", "relu"), report


ELSEWHERE = {
    "a quotient": lambda x: x / 3.0,
    "a quotient with numbers": lambda x: x / CHANNELS,
    "a number's quotient": lambda x: 3.0 / x,
    **{f"Lambda, {name}": lambda x, form=form: layers.Lambda(lambda y: form(y, 0.5))(x) for name, form in {
        "sum": lambda y, n: y + n, "difference": lambda y, n: n - y, "product": lambda y, n: y * n,
        "quotient": lambda y, n: y / n, "moved": lambda y, n: tf.reshape(y * n, (-1, 4, 4, 4)),
        "rectified": lambda y, n: tf.nn.relu(y - n), "squared": lambda y, n: tf.math.squared_difference(y, n),
    }.items()},
}  # fmt: skip


@pytest.mark.parametrize("bits", [(), ("before",), ("after",)])
@pytest.mark.parametrize("what", ELSEWHERE)
def test_where_the_converter_is_not_told(what, bits):
    """Refused when quantizing, also where only one end has 16 bits."""
    image = layers.Input((6, 6, 3))
    x = ELSEWHERE[what](layers.Conv2D(4, 3, name="before")(image))
    model = keras.Model(image, layers.Conv2D(3, 1, name="after")(x))
    with pytest.raises(ValueError, match=r"which is no layer.*16-bit values.*x \* \(1 / number\).*class of its own"):
        rb.quantize_aware(model, "edge_int16x8", override={name: {"activation_bits": 8} for name in bits})
    assert quantization_of(model) is None


MATRIX = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
PRODUCTS = {
    "matmul": lambda x: tf.matmul(x, MATRIX),
    "tensordot": lambda x: tf.tensordot(x, MATRIX, 1),
    "einsum": lambda x: tf.einsum("bhwc,cd->bhwd", x, MATRIX),
}


@pytest.mark.parametrize("after", ["returned", "relu", "conv"])
@pytest.mark.parametrize("what", PRODUCTS)
def test_products_with_a_matrix_of_numbers(what, after):
    """The converter gives the matrix 8 bits: files were up to 24 steps off on average."""
    made = {"returned": lambda x: x, "relu": layers.ReLU(), "conv": layers.Conv2D(3, 1)}[after]
    image = layers.Input((6, 6, 3))
    model = keras.Model(image, made(layers.Lambda(PRODUCTS[what])(layers.Conv2D(4, 3)(image))))
    with pytest.raises(ValueError, match="which is no layer.*a number or a weight and 16-bit values.*class of its own"):
        rb.quantize_aware(model, "edge_int16x8")
    assert quantization_of(rb.quantize_aware(model, "edge_int8")) is not None


WITHOUT = {
    "Sigmoid": tf.sigmoid, "Tanh": tf.tanh, "Softmax": tf.nn.softmax, "Selu": tf.nn.selu,
    "DepthToSpace": lambda x: tf.nn.depth_to_space(x, 2),
    "PadV2": lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0),
}  # fmt: skip


@pytest.mark.parametrize("what", WITHOUT)
def test_operations_without_16_bits(what, tmp_path):
    with pytest.raises(ValueError, match=f"which is no layer.*no int16 form of {what}.*class of its own"):
        rb.quantize_aware(network(layers.Lambda(WITHOUT[what])), "edge_int16x8")
    assert rb.quantize_aware(network(layers.Lambda(WITHOUT[what])), "edge_int8", calibration_data=PICTURES)
    report = exported(network(Own(WITHOUT[what])), tmp_path)
    assert report.parity[0].cosine > 0.9999


class Own(layers.Layer):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def call(self, inputs):
        return self.form(inputs)


class Subclassed(keras.Model):
    def __init__(self, form):
        super().__init__(name="network")
        self.first, self.last, self.form = layers.Conv2D(4, 3), layers.Conv2D(3, 1), form

    def call(self, inputs):
        return self.last(self.form(self.first(inputs)))


@pytest.mark.parametrize("form", [lambda x: x / 3.0, lambda x: 3.0 / (x + 9.0), lambda x: 1.0 - x * CHANNELS])
def test_the_remedy(form, tmp_path):
    report = exported(network(Own(form)), tmp_path)
    assert report.passed, report


def test_a_subclassed_model():
    model = Subclassed(lambda x: 1.0 - x)
    model(PICTURES)
    with pytest.raises(ValueError, match="sub', which is no layer, of 'network' computes with a number"):
        rb.quantize_aware(model, "edge_int16x8")


def test_the_model_s_input():
    image = layers.Input((6, 6, 3))
    model = keras.Model(image, [layers.Conv2D(3, 1)(image / 255.0), layers.Conv2D(3, 1)(image)])
    with pytest.raises(ValueError, match="which is no layer.*computes with a number"):
        rb.quantize_aware(model, "edge_int16x8")


@pytest.mark.parametrize("bits", [(8, 16), (16, 8), (8, 8)])
@pytest.mark.parametrize("form", FORMS)
def test_beside_8_bits(form, bits, tmp_path):
    image = layers.Input((6, 6, 3))
    x = FORMS[form](layers.Conv2D(4, 3, name="before")(image), 0.5)
    model = keras.Model(image, layers.Conv2D(3, 1)(layers.Conv2D(4, 1, name="after")(x)))
    override = {name: {"activation_bits": one} for name, one in zip(("before", "after"), bits, strict=True)}
    report = exported(model, tmp_path, override=override)
    assert report.passed, report


def test_numbers_of_8_bits_read_in_16():
    model = network(lambda x: x + CHANNELS)
    ((bare, _),) = operations_of(model)
    with pytest.raises(ValueError, match="a step off here and there"):
        rb.quantize_aware(model, "edge_int16x8", override={f"*{bare.name}": {"activation_bits": 8}})


def test_an_array_before_the_tensor_in_8_bits(tmp_path):
    model = network(lambda x: of.multiply(np.full_like(CHANNELS, 0.5), x))
    rb.quantize_post_training(model, "edge_int8", calibration_data=PICTURES)
    assert rb.export_model(model, tmp_path / "m.tflite", parity_data=PICTURES).passed
