"""Kernels of ONNX files against the model's: channels that are switched off, and names that tf2onnx makes up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.export.onnx import emitter
from resnet_backbones.export.report.kernels import compare_kernels
from resnet_backbones.export.request import ExportRequest
from resnet_backbones.keras_compat import keras
from tests.support.nets import images

from .test_onnx_passes import batch_norm

layers = keras.layers
LIVE, DEAD = 0, 2  # channels of each layer
# Batch norm scales of the four channels: none dead by them, zero, far below float32's, and all but zero.
SCALES = {"kernel": 0.3, "zero": 0.0, "denormal": 1e-40, "tiny": 1e-9, "small": 1e-4}


@pytest.fixture(scope="module")
def noise():
    return images(4, 16, 16, 3)


@pytest.fixture(scope="module", params=SCALES)
def model(request, noise):
    """A convolution and a depthwise one in which a channel is dead: by its kernel, or by the batch norm behind it."""
    keras.utils.set_random_seed(0)
    scales = [1.0, -0.7, SCALES[request.param], 0.5]
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, use_bias=False, name="first")(image)
    x = layers.DepthwiseConv2D(3, use_bias=False, name="apart")(layers.ReLU()(batch_norm(scales, 4)(x)))
    made = keras.Model(image, layers.Conv2D(4, 1, name="last")(batch_norm(scales, 4)(x)), name="net")
    if request.param == "kernel":
        for name, axis in (("first", 3), ("apart", 2), ("last", 3)):
            kernel, *others = made.get_layer(name).get_weights()
            kernel = np.array(kernel)
            np.moveaxis(kernel, axis, 0)[DEAD] = 0
            made.get_layer(name).set_weights([kernel, *others])
    return rb.quantize_post_training(made, "portable_int8", calibration_data=noise)


@pytest.fixture(scope="module", params=["tensorrt", "onnxruntime"])
def emitted(request, model):
    return emitter.emit(model, ExportRequest("onnx", "int8", target=request.param))


def test_dead_channels_are_no_difference(model, emitted):
    found = compare_kernels(model, emitted.kernels, emitted.sources)
    assert (found.compared, found.equal, found.missing) == (3, 3, [])
    assert found.scale_error < 1e-6


@pytest.mark.parametrize("channel", [LIVE, DEAD])
@pytest.mark.parametrize("position", [0, 1])
def test_one_other_integer_is_a_difference_in_every_channel(model, emitted, position, channel):
    kernels = list(emitted.kernels)
    values = kernels[position].values.copy()
    axis = 2 if kernels[position].depthwise else 3
    changed = np.moveaxis(values, axis, 0)[channel]
    changed.flat[0] += 1
    kernels[position] = dataclasses.replace(kernels[position], values=values)
    found = compare_kernels(model, kernels, emitted.sources)
    assert found.different == [("net/first", "net/apart")[position]]


@pytest.mark.parametrize("position", [0, 1])
def test_another_scale_of_a_live_channel_is_seen(model, emitted, position):
    kernels = list(emitted.kernels)
    scales = kernels[position].scales.copy()
    scales[LIVE] *= 1.01
    kernels[position] = dataclasses.replace(kernels[position], scales=scales)
    assert compare_kernels(model, kernels, emitted.sources).scale_error == pytest.approx(0.01, rel=1e-3)


def test_the_whole_report_passes_with_a_dead_channel(model, noise, tmp_path):
    report = rb.export_model(model, tmp_path / "a.onnx", parity_data=noise)
    assert report.passed, report.failures


@pytest.mark.parametrize("batch", [1, None])
@pytest.mark.parametrize("target", ["tensorrt", "onnxruntime"])
def test_a_matrix_with_a_bias_is_found_under_its_layer_s_name(target, batch, noise, tmp_path):
    image = layers.Input((16, 16, 3))
    last = layers.Dense(5, activation="softmax", name="last")
    made = keras.Model(image, last(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))))
    last.bias.assign(np.arange(5.0))
    rb.quantize_post_training(made, "portable_int8", calibration_data=noise)
    report = rb.export_model(made, tmp_path / "a.onnx", target=target, batch=batch)
    assert report.kernels.compared == report.kernels.equal == 2
    assert not report.kernels.missing
