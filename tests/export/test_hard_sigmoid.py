"""A hard sigmoid has another slope in each Keras; LiteRT rounds it once with either."""

from __future__ import annotations

import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import images


@pytest.mark.parametrize("scheme", ["edge_int8", "portable_int8"])
def test_a_hard_sigmoid_is_rounded_once(scheme, tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(32, 3)(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1)(keras.layers.Activation("hard_sigmoid")(x)))
    pictures = 0.3 * images(64, 8, 8, 3)
    rb.quantize_post_training(model, scheme, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=pictures)
    assert report.census.int8_share == 1
    assert report.parity[0].max_steps < 1.01
    assert report.parity[0].mean_steps < 0.1
