"""Rectifiers with and without a limit, and averages: a file rounds as often, and to the same steps, as Keras."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import images

layers = keras.layers
RECTIFIERS = {"relu": layers.ReLU, "relu6": lambda: layers.ReLU(6.0), "relu to 3": lambda: layers.ReLU(3.0)}


def pooled(x):
    return layers.MaxPooling2D(2, 1)(layers.Conv2D(4, 3)(x))


BEFORE = {
    "own": lambda x, first: layers.Conv2D(4, 3, activation=RECTIFIERS[first]())(x),
    "layer": lambda x, first: RECTIFIERS[first]()(layers.Conv2D(4, 3)(x)),
    "add": lambda x, first: RECTIFIERS[first]()(layers.Add()([layers.Conv2D(4, 3)(x), layers.Conv2D(4, 3)(x)])),
    "batch norm by itself": lambda x, first: RECTIFIERS[first]()(layers.BatchNormalization()(pooled(x))),
}
WAYS = {
    "edge_int8 litert": ("edge_int8", "m.tflite", {}),
    "portable_int8 litert": ("portable_int8", "m.tflite", {}),
    "edge_int8 onnxruntime": ("edge_int8", "m.onnx", {"target": "onnxruntime"}),
    "portable_int8 onnxruntime": ("portable_int8", "m.onnx", {"target": "onnxruntime"}),
}


def exported(outputs, image, way, folder):
    """The report of a model, and the model."""
    scheme, name, options = WAYS[way]
    model = keras.Model(image, outputs)
    pictures = images(8, *image.shape[1:])
    rb.quantize_post_training(model, scheme, calibration_data=pictures)
    return rb.export_model(model, folder / name, parity_data=pictures, **options), model


@pytest.mark.parametrize("way", WAYS)
def test_a_rectifier_behind_another_is_rounded_as_in_keras(way, tmp_path):
    keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 3))
    trunk = layers.Conv2D(4, 3, kernel_initializer=keras.initializers.RandomNormal(stddev=3.0))(image)
    every = product(BEFORE.values(), RECTIFIERS, RECTIFIERS)
    report, model = exported(
        [RECTIFIERS[then]()(before(trunk, first)) for before, first, then in every], image, way, tmp_path
    )
    assert max(float(np.max(one)) for one in model.predict(images(8, 8, 8, 3), verbose=0)) > 6.5  # so each limit clips
    assert report.passed, report
    assert max(one.mean_steps for one in report.parity) < 1e-3, report.parity
    assert not report.float_operators


@pytest.mark.parametrize("limit", [0.5, 3.0])
def test_a_clipped_relu_is_a_part_of_the_convolution_before_it(limit, tmp_path):
    image = layers.Input((8, 8, 3))
    inner = layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False)(image))
    inner = layers.Conv2D(4, 3, activation=layers.ReLU(limit))(layers.ReLU(limit)(inner))
    report, _ = exported(inner, image, "edge_int8 litert", tmp_path)
    assert [operator.kind for operator in report.census.operators] == ["CONV_2D", "CONV_2D"]


AVERAGES = {
    "2x2": lambda: layers.AveragePooling2D(2, 1, padding="same"),
    "3x2": lambda: layers.AveragePooling2D((3, 2)),
    "global size": lambda: layers.AveragePooling2D(14),
    "bilinear": lambda: layers.UpSampling2D(interpolation="bilinear"),
    "resized": lambda: layers.Resizing(5, 28),
}
RESIZED = ("bilinear", "resized")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", ["signed", "relu", "padded"])
def test_averages_are_rounded_to_the_steps_of_what_is_averaged(before, way, tmp_path):
    keras.utils.set_random_seed(0)
    image = layers.Input((16, 16, 3))
    trunk = layers.Conv2D(8, 3, activation=None if before == "signed" else "relu")(image)
    trunk = layers.ZeroPadding2D()(layers.MaxPooling2D(2, 1)(trunk)) if before == "padded" else trunk
    report, model = exported([make()(trunk) for make in AVERAGES.values()], image, way, tmp_path)
    assert report.passed, report
    exact = dict(zip(AVERAGES, report.parity, strict=True))
    wrong = 0.1 if "litert" in way else 1e-3  # LiteRT resizes in fewer bits
    assert max(one.mean_steps for name, one in exact.items() if name not in RESIZED) < 1e-3, report.parity
    assert max(exact[name].mean_steps for name in RESIZED) < wrong, report.parity
    variable = tf.Variable(images(2, 16, 16, 3))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(variable, training=True)[0])
    assert np.mean(np.abs(tape.gradient(loss, variable))) > 0.01


@pytest.mark.parametrize("scheme", ["gpu_int8", "portable_int8"])
def test_averages_for_tensorrt_are_rounded_as_in_keras(scheme, tmp_path):
    keras.utils.set_random_seed(0)
    image = layers.Input((16, 16, 3))
    trunk = layers.Conv2D(8, 3)(image)
    averaged = {name: make()(trunk) for name, make in AVERAGES.items()}
    read = [layers.Conv2D(3, 1)(layers.Conv2D(4, 1)(one)) for one in averaged.values()]
    rectified = [layers.Conv2D(3, 1)(layers.Conv2D(4, 1)(layers.ReLU()(one))) for one in averaged.values()]
    twice = layers.Conv2D(3, 1)(layers.AveragePooling2D(2)(averaged["2x2"]))
    outputs = [*read, *rectified, twice, layers.MaxPooling2D(2)(averaged["3x2"])]
    model = keras.Model(image, outputs)
    pictures = images(8, 16, 16, 3)
    rb.quantize_post_training(model, scheme, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "m.onnx", target="tensorrt", parity_data=pictures)
    assert report.passed, report
    assert max(one.mean_steps for one in report.parity) < 0.05, report.parity


def test_an_average_that_is_excluded_is_not_rounded(tmp_path):
    image = layers.Input((16, 16, 3))
    trunk = layers.Conv2D(8, 3)(image)
    model = keras.Model(image, layers.AveragePooling2D(2, name="mean")(trunk))
    pictures = images(8, 16, 16, 3)
    rb.quantize_post_training(model, calibration_data=pictures, exclude=["mean"])
    whole = keras.Model(model.inputs, trunk)
    expected = tf.nn.avg_pool2d(whole(pictures), 2, 2, "VALID")
    np.testing.assert_allclose(model(pictures), expected, atol=1e-6)


TRUNKS = {
    "conv": lambda x: layers.Conv2D(4, 3, bias_initializer=keras.initializers.RandomNormal(stddev=0.5))(x),
    "batch norm by itself": lambda x: layers.BatchNormalization(beta_initializer="random_normal")(pooled(x)),
    "add": lambda x: layers.Add()([layers.Conv2D(4, 3)(x), layers.Conv2D(4, 3)(x)]),
    "reshape": lambda x: layers.Reshape((-1, 2, 2))(layers.Conv2D(4, 3)(x)),
    "permute": lambda x: layers.Permute((2, 1, 3))(layers.Conv2D(4, 3)(x)),
}
LIMITED = {**RECTIFIERS, "relu to half": lambda: layers.ReLU(0.5), "leaky": layers.LeakyReLU}
READERS = {
    "each": lambda x: [made()(x) for made in LIMITED.values()],
    "same added": lambda x: layers.Add()([layers.ReLU(0.5)(x), layers.ReLU(0.5)(x)]),
    "largest": lambda x: layers.Maximum()([layers.ReLU(6.0)(x), layers.ReLU()(x)]),
}


@pytest.mark.parametrize("scheme", ["edge_int8", "portable_int8", "edge_int16x8"])
def test_rectifiers_of_one_tensor(scheme, tmp_path, monkeypatch):
    """The converter merges equal ones, or those whose limit is their range's end; in 16 bits it has no ReLU6."""
    monkeypatch.setitem(WAYS, "it", (scheme, "m.tflite", {}))
    keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, kernel_initializer=keras.initializers.RandomNormal(stddev=3.0))(image)
    readers = [name for name in READERS if scheme != "edge_int16x8" or name != "same added"]
    built = [READERS[name](trunk(stem)) for trunk, name in product(TRUNKS.values(), readers)]
    report, model = exported(tf.nest.flatten(built), image, "it", tmp_path)
    assert max(float(np.max(one)) for one in model.predict(images(8, 8, 8, 3), verbose=0)) > 6.5  # so each limit clips
    assert report.passed, report
    assert scheme == "edge_int16x8" or max(one.max_steps for one in report.parity) < 1.01, report.parity
    assert not report.float_operators


@pytest.mark.parametrize("limit", [1.0, 6.0])
def test_a_limit_in_16_bits(limit, tmp_path, monkeypatch):
    monkeypatch.setitem(WAYS, "it", ("edge_int16x8", "m.tflite", {}))
    image = layers.Input((8, 8, 3))
    report, _ = exported([layers.ReLU(limit)(trunk(image)) for trunk in TRUNKS.values()], image, "it", tmp_path)
    assert report.passed, report
    assert not report.float_operators
