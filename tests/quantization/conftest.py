"""Small models, built once."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import SPEC


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (4, 64, 64, 3)).astype("float32")


@pytest.fixture
def classifier():
    """A fresh little residual classifier, compiled."""
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(3, activation="softmax", name="head")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model
