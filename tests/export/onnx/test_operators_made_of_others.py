"""What tf2onnx has no form of, or a wrong one, and ONNX has: exact GELU, large transposed convolutions."""

from __future__ import annotations

import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import images

layers = keras.layers
TRANSPOSED = [
    {"kernel_size": 2, "strides": 3},
    {"kernel_size": 1, "strides": 2},
    {"kernel_size": 2, "strides": 3, "padding": "same"},
    {"kernel_size": 3, "strides": 2, "output_padding": 1},
    {"kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
    {"kernel_size": (1, 3), "strides": (3, 2)},
]


def check(model, tmp_path, size):
    pictures = images(8, size, size, 3)
    assert rb.export_model(model, tmp_path / "f.onnx", precision="float32", parity_data=pictures).passed
    rb.quantize_post_training(model, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "m.onnx", target="onnxruntime", parity_data=pictures)
    assert report.passed, report.failures


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_transposed_convolutions_larger_than_their_kernels_reach(options, tmp_path):
    image = layers.Input((6, 6, 3))
    check(keras.Model(image, layers.Conv2DTranspose(4, bias_initializer="ones", **options)(image)), tmp_path, 6)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2, "strides": 2},
        {"kernel_size": 1, "strides": 2},
        {"kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
    ],
    ids=str,
)
def test_transposed_convolutions_of_volumes(options, tmp_path):
    volume = layers.Input((4, 5, 6, 3))
    model = keras.Model(volume, layers.Conv3DTranspose(2, bias_initializer="ones", **options)(volume))
    volumes = images(4, 4, 5, 6, 3)
    assert rb.export_model(model, tmp_path / "f.onnx", parity_data=volumes).passed


def test_exact_gelu(tmp_path):
    image = layers.Input((8, 8, 3))
    activated = layers.Activation("gelu")(layers.Conv2D(6, 3)(image))
    check(keras.Model(image, layers.Conv2D(3, 1)(activated)), tmp_path, 8)
