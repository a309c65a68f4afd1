"""Quantized models saved as .h5 and SavedModel: what loads, equal outputs, and what load_model says of the others."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_api import keras, keras_name
from resnet_backbones.quantization import quantizers_of

IMAGES = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
IS_KERAS_3 = keras_name().startswith("Keras 3")
layers = keras.layers


@pytest.fixture(scope="module")
def model():
    image = layers.Input((16, 16, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(image)))
    built = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    return rb.quantize_post_training(built, calibration_data=IMAGES)


def outputs(model):
    return np.asarray(model(IMAGES, training=False))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_h5(model, tmp_path):
    model.save(tmp_path / "m.h5")
    with pytest.raises(ValueError, match=r"is an HDF5 file.*keras\.models\.load_model.*on Keras 3 only"):
        rb.load_model(tmp_path / "m.h5")
    if IS_KERAS_3:
        loaded = keras.models.load_model(tmp_path / "m.h5")
        assert len(quantizers_of(loaded)) == len(quantizers_of(model)) > 0
        np.testing.assert_array_equal(outputs(loaded), outputs(model))
    else:
        with pytest.raises(ValueError, match="Unknown object"):
            keras.models.load_model(tmp_path / "m.h5")


def test_saved_model(model, tmp_path):
    model.export(str(tmp_path / "m"))
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_allclose(loaded.serve(IMAGES), outputs(model), atol=1e-6)
    with pytest.raises(ValueError, match=r"is a folder.*tf\.saved_model\.load"):
        rb.load_model(tmp_path / "m")
    with pytest.raises(ValueError, match="format 'savedmodel' has no int8"):
        rb.export_model(model, tmp_path / "ours")


@pytest.mark.filterwarnings("ignore")
def test_weights_in_h5(model, tmp_path):
    model.save_weights(tmp_path / "m.weights.h5")
    expected = outputs(model)
    before = model.get_weights()
    model.set_weights([value + 1 for value in before])
    model.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(outputs(model), expected)
    with pytest.raises(ValueError, match="is an HDF5 file"):
        rb.load_model(tmp_path / "m.weights.h5")
