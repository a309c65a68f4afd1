"""A channel whose kernel is all but zero, and whose bias is not: 32 bits hold it in steps that were made larger."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_api import DEPTHWISE_KERNEL, keras
from tests.small_nets import images

layers = keras.layers
KINDS = {
    "convolution": (lambda **more: layers.Conv2D(4, 3, **more), "kernel"),
    "depthwise": (lambda **more: layers.DepthwiseConv2D(3, **more), DEPTHWISE_KERNEL),
    "separable": (lambda **more: layers.SeparableConv2D(4, 3, **more), "pointwise_kernel"),
    "transposed": (lambda **more: layers.Conv2DTranspose(4, 3, 2, **more), "kernel"),
    "dense": (lambda **more: layers.Dense(4, **more), "kernel"),
}


def with_a_tiny_channel(kind, normed, factor):
    make, attribute = KINDS[kind]
    image = layers.Input((6, 6, 4))
    layer = make(use_bias=not normed, name="layer")
    tensor = layer(layers.Flatten()(image) if kind == "dense" else image)
    norm = layers.BatchNormalization() if normed else None
    model = keras.Model(image, tensor if norm is None else norm(tensor))
    variable = getattr(layer, attribute)
    kernel = np.asarray(variable).copy()
    axis = 2 if kind in ("depthwise", "transposed") else kernel.ndim - 1
    np.moveaxis(kernel, axis, 0)[0] *= factor
    variable.assign(kernel)
    if normed:
        norm.beta.assign([1.0, 0.1, 0.2, 0.3])
        norm.moving_variance.assign([max(1e-6, factor**2), 1.0, 1.0, 1.0])
    else:
        layer.bias.assign([1.0, 0.1, 0.2, 0.3])
    return model


@pytest.mark.parametrize("factor", [1e-4, 1e-7, 1e-12, 0.0])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_biases_fit_and_reports_pass(kind, normed, factor, tmp_path):
    model = with_a_tiny_channel(kind, normed, factor)
    pictures = images(8, 6, 6, 4)
    rb.quantize_post_training(model, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=pictures)
    assert report.passed, report.failures
    assert report.parity[0].within_two_steps == 1.0


def test_a_batch_norm_that_is_switched_off_whole_leaves_its_shift(tmp_path):
    image = layers.Input((6, 6, 4))
    norm = layers.BatchNormalization(gamma_initializer="zeros")
    model = keras.Model(image, norm(layers.Conv2D(4, 3, use_bias=False)(image)))
    norm.beta.assign([1.0, 0.2, 0.4, 0.6])
    pictures = images(8, 6, 6, 4)
    rb.quantize_post_training(model, calibration_data=pictures)
    with np.errstate(all="raise"):
        report = rb.export_model(model, tmp_path / "m.tflite", parity_data=pictures)
    assert report.passed, report.failures
    found = rb.runtime.load(tmp_path / "m.tflite").raw(pictures)
    np.testing.assert_allclose(found["output"], np.asarray(model(pictures)), atol=1.01 / 255)  # one step
