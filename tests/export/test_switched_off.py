"""Channels that a batch norm switches off, as blocks start and as pruning leaves them: files hold nothing of them."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import SPEC, images, randomise

layers = keras.layers
BEFORE = {
    "convolution": lambda x: layers.Conv2D(8, 3, use_bias=False)(x),
    "convolution with a bias": lambda x: layers.Conv2D(8, 3, bias_initializer="normal")(x),
    "groups": lambda x: layers.Conv2D(8, 3, groups=2)(x),
    "depthwise": lambda x: layers.DepthwiseConv2D(3)(x),
    "separable": lambda x: layers.SeparableConv2D(8, 3)(x),
    "transposed": lambda x: layers.Conv2DTranspose(8, 3, 2)(x),
    "dense": lambda x: layers.Dense(8)(layers.GlobalAveragePooling2D()(x)),
    "activated": lambda x: layers.Conv2D(8, 3, activation="relu")(x),
    "pooled": lambda x: layers.AveragePooling2D(2)(x),
}
BEHIND = {
    "nothing": lambda x: x,
    "a rectifier": lambda x: layers.ReLU()(x),
    "a sum": lambda x: layers.Add()([x, layers.Dense(8)(x)]),
}


def switched_off(layer, part, rng):
    """Sets a part of the scales to zero, and others to little."""
    off = rng.random(layer.gamma.shape) < part
    little = rng.choice([0.0, 1e-7, 1e-4, 5e-4], off.shape)
    layer.gamma.assign(np.where(off, little if part < 1 else 0.0, np.asarray(layer.gamma)))


def branches(part):
    rng = np.random.default_rng(0)
    image = layers.Input((8, 8, 3))
    shared = layers.Conv2D(8, 3, activation="relu")(image)
    norms, outputs = [], []
    for before in BEFORE.values():
        for behind in BEHIND.values():
            norms.append(layers.BatchNormalization())
            outputs.append(behind(norms[-1](before(shared))))
    model = keras.Model(image, outputs)
    randomise(model)
    for norm in norms:
        switched_off(norm, part, rng)
    return model


# Kernels of 4 bits, and activations of 16, are a step off here and there for other reasons.
@pytest.mark.parametrize(
    ("scheme", "kernel_bits", "steps"), [("edge_int8", 8, 0.01), ("edge_int8", 4, 0.5), ("edge_int16x8", 8, 1.0)]
)
@pytest.mark.parametrize("part", [0.5, 1.0])
def test_files_compute_what_keras_does(scheme, kernel_bits, steps, part, tmp_path):
    model, data = branches(part), images(8, 8, 8, 3)
    rb.quantize_post_training(model, scheme, calibration_data=data, override={"*": {"kernel_bits": kernel_bits}})
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=data)
    assert report.passed, report.failures
    for output in report.parity:
        assert output.mean_steps < steps, output


def test_the_blocks_of_a_new_backbone_start_as_keras_has_them(tmp_path):
    backbone, data = rb.create_backbone(SPEC, input_shape=(32, 32, 3)), images(4, 32, 32, 3)
    rb.quantize_post_training(backbone, calibration_data=data)
    report = rb.export_model(backbone, tmp_path / "m.tflite", parity_data=data)
    assert report.passed, report.failures
    assert max(output.mean_steps for output in report.parity) < 1e-3
