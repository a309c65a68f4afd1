"""Float files: batch norm folded, parity with Keras, smaller in half precision."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import randomise


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone("resnet18", input_shape=(64, 64, 3))
    randomise(backbone)
    return backbone


@pytest.fixture(scope="module")
def small_images(images):
    return images[:2] / 127.5 - 1.0


def test_float32_is_exact_and_has_batch_norm_folded(model, small_images, tmp_path):
    report = rb.export_model(model, tmp_path / "f.tflite", parity_data=small_images)
    assert report.precision == "float32"
    assert report.operators["CONV_2D", "float32"] == 20
    assert not {"MUL", "SUB", "RSQRT"} & {kind for kind, _ in report.operators}
    (parity,) = report.parity
    assert parity.max_steps < 1e-4 * np.abs(model(small_images).numpy()).max()


def test_float16_is_half_the_size_and_close(model, small_images, tmp_path):
    full = rb.export_model(model, tmp_path / "f32.tflite")
    half = rb.export_model(model, tmp_path / "f16.tflite", precision="float16", parity_data=small_images)
    assert half.size_bytes < 0.55 * full.size_bytes
    assert half.parity[0].cosine > 0.9999


def test_a_quantized_model_can_be_exported_in_float(model, small_images, tmp_path):
    expected = model(small_images).numpy()
    rb.quantize_post_training(model, calibration_data=small_images)
    report = rb.export_model(model, tmp_path / "f.tflite", precision="float32", parity_data=small_images)
    assert {dtype for kind, dtype in report.operators if kind == "CONV_2D"} == {"float32"}
    found = rb.runtime.load(report.path).raw(small_images)["output"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
