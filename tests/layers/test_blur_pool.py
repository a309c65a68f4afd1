"""Striding behind a low-pass filter."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_backbones.layers.feature_maps import BlurPool2D
from tests.support.nets import images


@pytest.mark.parametrize("shape", [(8, 8), (7, 9)])
def test_blur_pooling_is_the_filter_1_2_1_on_mirrored_borders(shape):
    x = images(2, *shape, 3)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    expected = ((rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4)[:, ::2, ::2]
    layer = BlurPool2D(2)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)
    assert not layer.weights
    assert tuple(layer.compute_output_shape((2, *shape, 3))) == expected.shape
