"""Models that take pixels as integers: the file takes them as well as the model does, or is refused."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras

layers = keras.layers
PIXELS = np.round(np.random.default_rng(0).uniform(0, 127, (8, 8, 8, 3)))
BEGINNINGS = {
    "rescaling": lambda x: layers.Rescaling(1 / 127)(x),
    "normalization": lambda x: layers.Normalization(mean=[60.0] * 3, variance=[1500.0] * 3)(x),
    "both": lambda x: layers.Normalization(mean=[0.4] * 3, variance=[0.1] * 3)(layers.Rescaling(1 / 127, -0.1)(x)),
}
FILES = [
    ("edge_int8", "m.tflite", {}),
    ("edge_int16x8", "m.tflite", {}),
    ("portable_int8", "m.tflite", {}),
    ("portable_int8", "m.onnx", {}),
    ("edge_int8", "m.onnx", {"target": "onnxruntime"}),
    ("edge_int8", "m.tflite", {"precision": "float32"}),
    ("edge_int8", "m.tflite", {"precision": "float32", "preprocessing": True}),
    ("edge_int8", "m", {"precision": "float32"}),
]


def build(dtype, beginning):
    image = layers.Input((8, 8, 3), dtype=dtype)
    return keras.Model(image, layers.Conv2D(4, 3)(beginning(image)))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_file_gives_what_the_model_gives_on_integers(dtype, beginning, tmp_path):
    images, models = PIXELS.astype(dtype), {}
    for scheme, name, arguments in FILES:
        if scheme not in models:
            models[scheme] = build(dtype, BEGINNINGS[beginning])
            rb.quantize_post_training(models[scheme], scheme, calibration_data=images)
        report = rb.export_model(models[scheme], tmp_path / name, parity_data=images, **arguments)
        assert report.passed, (scheme, name, arguments, report.verdict)
        if name != "m":
            found = rb.runtime.load(tmp_path / name).raw(images)["output"]
            expected = np.asarray(models[scheme](images))
            assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_integers_that_a_file_would_round_in_float_first_are_refused(tmp_path):
    images = PIXELS.astype("uint8")
    several = build("uint8", lambda x: layers.Concatenate()([layers.Rescaling(1 / 127)(x), layers.Rescaling(0.01)(x)]))
    words = r"takes uint8 images.*Input\(dtype='float32'\)"
    with pytest.warns(UserWarning, match=words):
        rb.quantize_post_training(several, calibration_data=images)
    with pytest.raises(ValueError, match=words):
        rb.export_model(several, tmp_path / "m.tflite")
    assert rb.export_model(several, tmp_path / "m.onnx", target="onnxruntime", parity_data=images).passed
    one = rb.quantize_post_training(build("uint8", BEGINNINGS["rescaling"]), calibration_data=images)
    with pytest.raises(ValueError, match=r"preprocessing= in the file would stay in float"):
        rb.export_model(one, tmp_path / "m.tflite", preprocessing=True)
