"""What a user leaves in float is float in the file too, though the converter would make integers of it."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_api import keras
from tests.small_nets import randomise

layers = keras.layers
IMAGES = np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 3)).astype("float32")


def between_ranges(kind):
    """A net whose layer "middle" reads a tensor with a range and is read by a layer that wants one."""
    image = layers.Input((16, 16, 3))
    before = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="first")(image)))
    if kind == "conv":
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="middle")(before)))
    elif kind == "depthwise in a block":
        x = layers.DepthwiseConv2D(3, padding="same", name="middle")(before)
        x = layers.Add()([layers.BatchNormalization()(x), before])
    elif kind == "addition":
        other = layers.Conv2D(8, 1, name="other")(before)
        x = layers.Add(name="middle")([other, before])
    else:
        x = layers.Dense(12, activation="relu", name="middle")(layers.GlobalAveragePooling2D()(before))
        return randomise(keras.Model(image, layers.Dense(5, name="last")(x)))
    return randomise(keras.Model(image, layers.Conv2D(4, 3, padding="same", name="last")(x)))


OPERATORS = {
    "conv": "CONV_2D",
    "depthwise in a block": "DEPTHWISE_CONV_2D",
    "addition": "ADD",
    "dense": "FULLY_CONNECTED",
}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", OPERATORS)
def test_an_excluded_layer_is_float_in_the_file(kind, bits, tmp_path):
    scheme = "edge_int8" if bits == 8 else "edge_int16x8"
    model = rb.quantize_post_training(between_ranges(kind), scheme, calibration_data=IMAGES, exclude=["middle"])
    report = rb.export_model(model, tmp_path / "model.tflite", parity_data=IMAGES, layers=True)
    assert report.operators[OPERATORS[kind], "float32"] == 1
    assert "excluded by 'middle'" in str(report.float_operators)
    assert not any("LOCAL_RESPONSE" in operator for operator, _ in report.operators)
    assert report.kernels.compared == report.kernels.equal == 2 + (kind == "addition")
    assert all(entry.within_two_steps >= 0.99 for entry in report.parity)
    assert rb.runtime.load(report.path).raw(IMAGES[:1])["output"].shape[0] == 1

    whole = rb.quantize_post_training(between_ranges(kind), scheme, calibration_data=IMAGES)
    everything = rb.export_model(whole, tmp_path / "whole.tflite").operators
    assert {dtype for _, dtype in everything} <= {"int8", "int16"}
