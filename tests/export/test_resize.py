"""How training resized images is recorded in a file, and the runtime follows it."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras


@pytest.fixture(scope="module")
def model():
    image = keras.layers.Input((16, 16, 3))
    return keras.Model(image, keras.layers.Conv2D(2, 3)(image))


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx"])
@pytest.mark.parametrize("resize", [None, "stretch", "letterbox"])
def test_the_runtime_resizes_as_the_file_says(model, name, resize, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (20, 40, 3)).astype("uint8")
    rb.export_model(model, tmp_path / name, resize=resize)
    loaded = rb.runtime.load(tmp_path / name)
    assert loaded.metadata["input"].get("resize") == resize
    found, other = loaded.raw(picture)["output"], {"letterbox": "stretch"}.get(resize, "letterbox")
    np.testing.assert_array_equal(found, loaded.raw(picture, resize=resize or "stretch")["output"])
    assert np.any(found != loaded.raw(picture, resize=other)["output"])


@pytest.mark.parametrize(
    ("name", "resize", "words"),
    [
        ("m.tflite", "crop", "resize='crop' is not one of 'stretch', 'letterbox'"),
        ("m.keras", "letterbox", "resize= is carried in a file's metadata, and format 'keras' has none"),
    ],
)
def test_what_cannot_be_recorded_is_refused(model, name, resize, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        rb.export_model(model, tmp_path / name, resize=resize)
