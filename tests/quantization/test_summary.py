"""The summary says of every range, kernel and float layer what is so, and fits its width."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones._util.text import WIDTH
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import QuantizationSchedule, hooks_of, quantize_aware, quantizers_of
from resnet_backbones.quantization.strip import strip_quantization
from resnet_backbones.quantization.summary import is_quantized, quantization_summary
from tests.quantization.saving_cases import IMAGES, quantized, sequential, subclassed
from tests.support.nets import retinanet

layers = keras.layers


def test_a_model_is_quantized_while_any_layer_is():
    model = sequential()
    assert not is_quantized(model)
    image = layers.Input((64, 64, 3))
    outer = keras.Model(image, model(image))
    quantize_aware(model)
    assert is_quantized(model)
    assert is_quantized(outer)
    assert not is_quantized(strip_quantization(outer))


def test_a_float_model_is_a_clear_error():
    with pytest.raises(ValueError, match="not quantized"):
        quantization_summary(sequential())


def test_every_range_and_kernel_has_its_row():
    model = quantized(retinanet)
    summary = quantization_summary(model)
    assert len(summary.ranges) == len(quantizers_of(model))
    assert len(summary.kernels) == sum(len(hook.kernels) for hook in hooks_of(model))
    calls = {row.call for row in summary.ranges if "box_head" in row.layer or "prediction_head" in row.layer}
    assert calls == {0, 1, 2, 3, 4}  # the head's layers have a range for each pyramid level
    text = str(summary)
    assert max(map(len, text.splitlines())) <= WIDTH
    for row in summary.ranges:
        assert f"{row.low:.4g}" in text  # figures are whole, however long the names
        assert f"{row.scale:.3g}" in text
    assert json.loads(json.dumps(summary.to_dict()))["scheme"] == "edge_int8"
    assert len(json.loads(json.dumps(summary.rows))) == len(summary.ranges) + len(summary.kernels) + len(summary.floats)


def test_scale_and_zero_point_are_those_the_values_are_rounded_to():
    model = quantized(subclassed)
    values = np.linspace(-3, 3, 301).astype("float32")
    owners = {quantizer.name: quantizer for quantizer in quantizers_of(model)}
    for row in quantization_summary(model).ranges:
        name = f"{row.layer.split('/')[-1]}_quantizer_{row.port.replace(':', '')}_{row.call}"
        integers = np.clip(np.round(values / row.scale) + row.zero_point, -128, 127)
        rounded = (integers - row.zero_point) * row.scale
        # A value halfway between two steps may go to either.
        assert np.abs(np.asarray(owners[name](tf.constant(values))) - rounded).max() <= 1.001 * row.scale
        assert np.mean(np.abs(np.asarray(owners[name](tf.constant(values))) - rounded) < 1e-3 * row.scale) > 0.95


def test_states_follow_calibration_and_schedule():
    model = quantize_aware(sequential())
    states = lambda: {row.state for row in quantization_summary(model).ranges}  # noqa: E731
    assert states() == {"unset"}
    assert "unset" in str(quantization_summary(model))
    rb.calibrate(model, IMAGES)
    assert states() == {"observing"}
    model.compile("sgd", "mse")
    model.fit(IMAGES, np.zeros((2, 3)), verbose=0, callbacks=[QuantizationSchedule(0, 0)])
    assert states() == {"frozen"}


def test_fixed_ranges_bits_and_granularity_are_said(classifier, images):
    override = {"stem_conv1": {"activation_bits": 16, "kernel_bits": 4}}
    quantize_aware(classifier, calibration_data=images, override=override)
    summary = quantization_summary(classifier)
    fixed = [row for row in summary.ranges if row.state == "fixed"]
    assert [(row.low, row.high, row.zero_point) for row in fixed] == [(0.0, 255 / 256, -128)]
    assert fixed[0].scale == pytest.approx(1 / 256)
    kernels = {row.layer.split("/")[-1]: row for row in summary.kernels}
    stem = classifier.get_layer("stem_conv1")
    assert kernels["stem_conv1"].bits == 4
    assert kernels["stem_conv1"].granularity == f"{stem.filters} channels"
    assert kernels["stem_conv1"].bound == pytest.approx(np.abs(np.asarray(stem.kernel)).max())
    assert kernels["head"].bits == 8
    assert kernels["head"].granularity == "3 channels"
    assert {row.bits for row in summary.ranges} == {8, 16}
    assert all(row.zero_point == 0 for row in summary.ranges if row.symmetric)
    assert summary.batch_norms > 0
    assert summary.frozen_batch_norms == 0


def test_what_stays_in_float_is_named_with_the_reason():
    image = layers.Input((16, 16, 4))
    x = layers.Conv2D(4, 3, activation="elu", name="first")(image)
    x = layers.Conv2D(4, 3, name="second")(layers.GaussianNoise(0.1, name="noise")(x))
    model = keras.Model(image, layers.Conv2D(4, 3, name="third")(layers.UnitNormalization(name="unit")(x)))
    with pytest.warns(UserWarning, match="in float"):
        quantize_aware(model, exclude=["second"])
    reasons = {row.layer.split("/")[-1]: row.reason for row in quantization_summary(model).floats}
    assert reasons["second"] == "excluded by 'second'"
    assert "no quantization rule" in reasons["unit"]
    assert "'elu' has no int8 form" in reasons["first"]
    assert "third" not in reasons
