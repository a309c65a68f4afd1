"""Small models, built once."""

from __future__ import annotations

import pytest

from tests.support.nets import classifier as build_classifier
from tests.support.nets import even_images


@pytest.fixture(scope="session")
def images():
    return even_images(-1, 1, 4, 64, 64, 3)


@pytest.fixture
def classifier():
    """A fresh little residual classifier, compiled."""
    model = build_classifier()
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model
