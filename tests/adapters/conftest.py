"""One backbone, images and labels for all adapter tests."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from tests.support.nets import SPEC, even_images

SIZE = 64


@pytest.fixture(scope="session")
def images():
    return even_images(0, 1, 2, SIZE, SIZE, 3)


@pytest.fixture(scope="session")
def box_labels():
    """One box an image, ``xywh``, padded with -1 as KerasCV wants it."""
    boxes = np.array([[[8, 8, 24, 24], [-1, -1, -1, -1]], [[30, 20, 16, 32], [4, 40, 20, 20]]], "float32")
    return {"boxes": boxes, "classes": np.array([[1, -1], [2, 0]], "float32")}


@pytest.fixture
def backbone():
    return rb.create_backbone(SPEC, input_shape=(SIZE, SIZE, 3))
