"""Under mixed precision quantizing is done in float32, training works, and nothing overflows into a range."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from digits import plain_digits

from resnet_backbones.export import export_model
from resnet_backbones.keras_compat import keras, policy_of
from resnet_backbones.quantization import hooks_of, quantize_aware, quantizers_of
from resnet_backbones.quantization.schedule import QuantizationSchedule

layers = keras.layers
POLICIES = ["mixed_float16", "mixed_bfloat16"]


@pytest.fixture(scope="module")
def digits():
    images, classes = plain_digits("train", 16)
    return (images * 2 - 1)[:512], classes[:512]


def network(policy):
    """A small residual classifier of digits; its head is in float32, as mixed precision wants it."""
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(policy)
    try:
        image = layers.Input((16, 16, 1))
        x = layers.Conv2D(16, 3, 2, padding="same", use_bias=False)(image)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        y = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization(momentum=0.9)(y)]))
        x = layers.Conv2D(32, 3, 2, padding="same", activation="relu")(x)
        x = layers.Flatten()(x)
        return keras.Model(image, layers.Dense(10, activation="softmax", dtype="float32")(x))
    finally:
        keras.mixed_precision.set_global_policy("float32")


def compile_(model):
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module", params=POLICIES)
def trained(request, digits):
    """(policy, quantized model, losses of its training), trained briefly in float first."""
    model = compile_(network(request.param))
    model.fit(*digits, batch_size=64, epochs=3, verbose=0)
    quantize_aware(model, calibration_data=digits[0][:64])
    schedule = QuantizationSchedule(freeze_batch_norm_epoch=1, freeze_ranges_epoch=2)
    history = compile_(model).fit(*digits, batch_size=64, epochs=3, verbose=0, callbacks=[schedule])
    return request.param, model, history.history["loss"]


def test_training_goes_on_and_learns(trained, digits):
    _, model, losses = trained
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    _, accuracy = model.evaluate(*digits, verbose=0)
    assert accuracy > 0.9


def test_ranges_are_float32_and_finite(trained):
    _, model, _ = trained
    for quantizer in quantizers_of(model):
        for variable in (quantizer.range_min, quantizer.range_max, quantizer.batches_seen, quantizer.observing):
            assert variable.dtype == tf.float32
            assert np.isfinite(variable.numpy())


def test_kernels_are_quantized_in_float32(trained):
    _, model, _ = trained
    for hook in hooks_of(model):
        for variable, quantize in hook.kernels.values():
            assert variable.dtype == tf.float32
            assert quantize(variable).dtype == tf.float32


def test_layers_compute_in_half_precision_between_quantizers(trained, digits):
    policy, model, _ = trained
    part = keras.Model(model.input, model.layers[-2].output)
    assert part(digits[0][:2], training=False).dtype == tf.as_dtype(policy.removeprefix("mixed_"))


@pytest.mark.parametrize("policy", POLICIES)
def test_ranges_are_those_of_float32_to_half_precision(policy, digits):
    models = [quantize_aware(network(name), calibration_data=digits[0][:64]) for name in ("float32", policy)]
    expected, found = ([q.range() for q in quantizers_of(model)] for model in models)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.01)


def test_a_batch_that_overflows_half_precision_leaves_every_range_finite(digits):
    model = quantize_aware(network("mixed_float16"), calibration_data=digits[0][:64])
    before = [q.range() for q in quantizers_of(model)]
    overflowing = 6e4 * digits[0][:64]
    model(tf.constant(overflowing), training=True)
    assert np.isfinite([q.range() for q in quantizers_of(model)]).all()
    assert [q.range() for q in quantizers_of(model)] != before  # the images themselves are finite, and were seen


def test_an_export_computes_in_float32_and_leaves_the_policies(trained, digits, tmp_path):
    policy, model, _ = trained
    report = export_model(model, tmp_path / "mixed.tflite", parity_data=digits[0][:64])
    assert {dtype for _, dtype in report.operators} == {"int8"}
    assert report.parity[0].cosine > 0.999
    assert report.parity[0].within_two_steps >= 0.99
    float_report = export_model(model, tmp_path / "float.tflite", precision="float32", parity_data=digits[0][:64])
    assert float_report.parity[0].max_steps < 1e-4
    policies = {policy_of(layer).name for layer in model.layers if isinstance(layer, layers.Conv2D)}
    assert policies == {policy}
