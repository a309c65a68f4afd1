"""Files of small networks pass their report and our own check, whatever fuses: part of the sweep of fusions."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import randomise
from tests.sweeps.fusions import ACTIVATIONS, AFTER, BEFORE, attempt

layers = keras.layers
# Each activation, and what stands before it and reads it in turn.
TENSORRT = ("gpu tensorrt", "portable tensorrt")
COVERING = [
    (activation, list(BEFORE)[(i + i // 3) % 3], list(AFTER)[i % len(AFTER)], TENSORRT[i % 2])
    for i, activation in enumerate(ACTIVATIONS)
]
# What each was once wrong with.
KNOWN = [
    ("sigmoid", "conv", "conv", "portable tensorrt"),  # a fixed range: the convolution behind it was in float
    ("tanh", "add", "conv", "portable tensorrt"),
    ("relu to 4", "add", "conv", "portable tensorrt"),
    ("leaky_relu", "add", "conv", "portable tensorrt"),  # Q/DQ between the sum and its activation
    ("hard_sigmoid", "add", "conv", "gpu tensorrt"),  # kernels were not found
    ("linear", "conv", "permute-activated-dense", "portable tensorrt"),  # Q/DQ before what the file permutes afterwards
    ("linear", "conv", "permute-activated-dense", "portable litert"),  # the rectifier was fused past a range
    ("prelu", "conv", "conv", "gpu tensorrt"),  # avoidable transpositions
    ("relu", "conv", "dense", "portable tensorrt"),
    ("relu", "concat", "permute", "portable tensorrt"),  # compared with the axes in another order
]


@pytest.mark.parametrize("case", [*COVERING, *KNOWN], ids="/".join)
def test_the_file_passes_its_report_and_our_check(case):
    *network, way = case
    (problems,) = attempt(*network, ways=(way,)).values()
    assert not [one for one in problems if not one.startswith("warning needless")], problems


MOVERS = {
    "none": lambda x: x,
    "permute": layers.Permute((2, 1, 3)),
    "channels first": layers.Permute((3, 1, 2)),
    "permute twice": lambda x: layers.Permute((2, 1, 3))(layers.Permute((3, 1, 2))(x)),
    "reshape": layers.Reshape((-1, 4)),
    "flatten": layers.Flatten(),
    "crop": layers.Cropping2D(1),
    "pad": layers.ZeroPadding2D(1),
    "upsample": layers.UpSampling2D(2),
    "max": layers.MaxPooling2D(2),
    "dropout": layers.Dropout(0.5),
    "slice": lambda x: x[:, 1:],
}
RECTIFIERS = {
    "relu": layers.ReLU,
    "relu6": lambda: layers.ReLU(6.0),
    "leaky": layers.LeakyReLU,
    "sigmoid": lambda: layers.Activation("sigmoid"),
}
FIRST = {
    "prelu": lambda: layers.PReLU(alpha_initializer="random_uniform"),
    "prelu of channels": lambda: layers.PReLU(alpha_initializer="random_uniform", shared_axes=[1, 2]),
    "scale": lambda: layers.Rescaling(0.5, 0.25),
}
TWICE = [
    (list(FIRST)[i % 3], mover, list(RECTIFIERS)[(i + i // 4) % 4], ("portable_int8", "gpu_int8")[i % 5 == 4])
    for i, mover in enumerate(MOVERS)
]


@pytest.mark.parametrize(("first", "mover", "second", "scheme"), [*TWICE, ("scale", "max", "relu", "portable_int8")])
def test_activations_one_after_the_other_fuse_though_values_move_between(first, mover, second, scheme, tmp_path):
    """A PReLU is a sum in ONNX, and an activation of a sum runs with it."""
    image = layers.Input((8, 6, 4))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(image))
    x = RECTIFIERS[second]()(MOVERS[mover](FIRST[first]()(x)))
    model = randomise(keras.Model(image, layers.Dense(3)(layers.Dense(5, activation="relu")(x))))
    images = np.random.default_rng(0).normal(0, 1, (8, 8, 6, 4)).astype("float32")
    rb.quantize_post_training(model, scheme, calibration_data=images)
    report = rb.export_model(model, tmp_path / "m.onnx", parity_data=images)
    assert report.passed, report.verdict
    assert not rb.export.tensorrt.check(report.path).of("error")
    if scheme == "portable_int8":
        report = rb.export_model(model, tmp_path / "m.tflite", parity_data=images)
        assert report.passed, report.verdict


@pytest.mark.parametrize("activation", ["relu", "relu6", "linear"])
def test_a_convolution_of_rescaled_images_is_in_int8(activation, tmp_path):
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation=activation)(layers.Rescaling(1 / 255)(image))
    model = randomise(keras.Model(image, layers.Conv2D(4, 1)(x)))
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    rb.quantize_post_training(model, "portable_int8", calibration_data=images)
    report = rb.export_model(model, tmp_path / "m.onnx", parity_data=images)
    assert report.int8_mac_share == 1
    assert report.passed, report.verdict


@pytest.mark.parametrize("scheme", ["gpu_int8", "portable_int8"])
@pytest.mark.parametrize("first", ["trunk", "branch"])
def test_sums_of_three_fuse_pair_by_pair(first, scheme, tmp_path):
    """As in a RepVGG block: the trunk, a 3x3 and a 1x1 convolution of it."""
    image = layers.Input((8, 8, 4))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(image)))
    wide = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(x))
    narrow = layers.BatchNormalization()(layers.Conv2D(4, 1, use_bias=False)(x))
    x = layers.ReLU()(layers.Add()([x, wide, narrow] if first == "trunk" else [wide, narrow, x]))
    model = randomise(keras.Model(image, layers.Conv2D(4, 1)(layers.ReLU()(layers.Conv2D(4, 3)(x)))))
    images = np.random.default_rng(0).normal(0, 1, (4, 8, 8, 4)).astype("float32")
    rb.quantize_post_training(model, scheme, calibration_data=images)
    report = rb.export_model(model, tmp_path / "m.onnx", parity_data=images)
    assert report.passed, report.verdict
    assert not rb.export.tensorrt.check(report.path).of("error")
