"""Resizing, of whole images and keeping the aspect ratio, in files: as Keras does it, for wide, tall and odd sizes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras

layers = keras.layers
GIVEN = [(12, 18), (19, 7), (5, 31)]
TO = [(6, 11), (17, 5)]
#: Keywords of the layer; tf_keras has no padding, nor antialiasing.
KEPT: list[dict] = [{}, {"crop_to_aspect_ratio": True}]
if IS_KERAS_3:
    KEPT += [
        {"pad_to_aspect_ratio": True},
        {"pad_to_aspect_ratio": True, "fill_value": 0.7},
        {"crop_to_aspect_ratio": True, "antialias": True},
    ]


def resized(given):
    """A model with an output for each target size, interpolation and way to keep the aspect ratio."""
    image = layers.Input((*given, 3))
    made = [
        layers.Resizing(*to, interpolation=how, name=f"r{number}", **kept)
        for number, (to, how, kept) in enumerate(itertools.product(TO, ("bilinear", "nearest"), KEPT))
    ]
    return keras.Model(image, {layer.name: layer(image) for layer in made})


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("given", GIVEN)
def test_a_float_file_resizes_as_keras_does(given, suffix, tmp_path, random):
    model, images = resized(given), random.uniform(0, 1, (2, *given, 3)).astype("float32")
    report = rb.export_model(model, tmp_path / f"m{suffix}", parity_data=images)
    found, expected = rb.runtime.load(report.path).raw(images), model(images, training=False)
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_allclose(found[name], np.asarray(expected[name]), atol=1e-5, err_msg=str((given, name)))


@pytest.mark.parametrize(("scheme", "suffix"), [("edge_int8", ".tflite"), ("portable_int8", ".onnx")])
@pytest.mark.parametrize("kept", KEPT[1:3], ids=lambda kept: next(iter(kept)))
@pytest.mark.parametrize("how", ["bilinear", "nearest"])
def test_an_int8_file_resizes_as_keras_does(how, kept, scheme, suffix, tmp_path, random):
    image = layers.Input((12, 19, 3))
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.Resizing(6, 7, interpolation=how, **kept)(x)
    model, images = keras.Model(image, layers.Conv2D(4, 3)(x)), random.uniform(0, 1, (8, 12, 19, 3)).astype("float32")
    rb.quantize_post_training(model, scheme, calibration_data=images)
    report = rb.export_model(model, tmp_path / f"m{suffix}", parity_data=images)
    assert report.passed, str(report)
    assert report.int8_mac_share == 1.0
    found, expected = rb.runtime.load(report.path).raw(images), np.asarray(model(images, training=False))
    (found,) = found.values()
    np.testing.assert_allclose(found, expected, atol=0.02 * np.ptp(expected))


@pytest.mark.parametrize("scheme", ["portable_int8", "gpu_int8"])
@pytest.mark.parametrize(("given", "to"), [((5, 38), (13, 17)), ((14, 22), (31, 13)), ((14, 22), (11, 63))])
def test_nearest_pixels_of_sizes_that_no_scale_in_float32_gives(given, to, scheme, tmp_path, random):
    image = layers.Input((*given, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = layers.Resizing(*to, interpolation="nearest")(x)
    model, images = keras.Model(image, layers.Conv2D(4, 3)(x)), random.uniform(0, 1, (8, *given, 3)).astype("float32")
    rb.quantize_post_training(model, scheme, calibration_data=images)
    report = rb.export_model(model, tmp_path / "m.onnx", parity_data=images)
    assert report.passed, str(report)
