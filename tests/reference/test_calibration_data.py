"""Tensors of torch as calibration data."""

from __future__ import annotations

import pytest
import torch

from resnet_backbones.quantization import quantize_post_training, quantizers_of
from tests.quantization.test_calibration_data import IMAGES, of_images


@pytest.mark.parametrize("grad", [False, True])
def test_tensors_of_torch_are_arrays(grad):
    images = torch.from_numpy(IMAGES).requires_grad_(grad)
    for data in (images, [images], [(images, torch.zeros(20))], {"images": images}):
        model = quantize_post_training(of_images(), calibration_data=data)
        assert all(quantizer.has_range for quantizer in quantizers_of(model))
