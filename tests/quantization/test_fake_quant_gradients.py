"""Fake quantization and its gradients, against the straight-through definition written out in numpy.

Source: Bengio, Léonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013,
https://arxiv.org/abs/1308.3432
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones.quantization import ActivationQuantizer, KernelQuantizer, context

ACTIVATIONS = [(bits, symmetric) for bits in (4, 8, 16) for symmetric in (False, True)]


def activation_quantizer(bits, symmetric, low, high):
    quantizer = ActivationQuantizer(bits=bits, symmetric=symmetric)
    quantizer.build()
    quantizer.set_range(low, high)
    quantizer.observing.assign(0.0)
    return quantizer


def grid(bits, symmetric, low, high):
    """Step, smallest and largest value: the range, moved so that zero is one of its values."""
    if symmetric:
        bound = max(-low, high)
        return bound / (2 ** (bits - 1) - 1), -bound, bound
    step = (high - low) / (2**bits - 1)
    below = round(-low / step)
    return step, -below * step, (2**bits - 1 - below) * step


@pytest.mark.parametrize("traced", [False, True])  # in a graph, training keeps a mask of the values, not the values
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("bits", "symmetric"), ACTIVATIONS)
def test_an_activation_passes_the_gradient_inside_its_range_and_none_outside(bits, symmetric, training, traced, random):
    values = random.normal(0, 2, (8, 50)).astype("float32")
    incoming = random.normal(0, 1, values.shape).astype("float32")
    quantizer = activation_quantizer(bits, symmetric, -1.3, 2.9)
    step, low, high = grid(bits, symmetric, -1.3, 2.9)

    def outputs_and_gradient(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = quantizer(inputs, training=training)
        return outputs, tape.gradient(outputs, inputs, output_gradients=tf.constant(incoming))

    compute = tf.function(outputs_and_gradient) if traced else outputs_and_gradient
    outputs, gradient = compute(tf.constant(values))
    inside = (values >= low) & (values <= high)
    assert 0.05 < np.mean(~inside) < 0.6
    np.testing.assert_array_equal(gradient, np.where(inside, incoming, 0.0))
    expected = np.clip(np.round(values / step) * step, low, high)
    error = np.abs(outputs.numpy() - expected)
    at_half = np.abs(np.abs(values / step - np.round(values / step)) - 0.5) < 0.02  # float32 may round either way
    assert error[~at_half].max() < 1e-3 * step + 1e-6


@pytest.mark.parametrize("training", [False, True])
def test_no_gradient_goes_to_the_range(training):
    quantizer = ActivationQuantizer(ema_decay=0.5)
    quantizer.build()
    quantizer.set_range(-1.0, 1.0)
    with tf.GradientTape() as tape:
        inputs = tf.constant([[-3.0, 0.2, 0.7]])
        tape.watch([inputs, quantizer.range_min, quantizer.range_max])
        loss = tf.reduce_sum(quantizer(inputs, training=training))
    gradient = tape.gradient(loss, inputs)
    assert quantizer.range()[0] == (-2.0 if training else -1.0)  # observed, and still
    np.testing.assert_array_equal(gradient, [[0.0, 1.0, 1.0]])


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 1, 3), None])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_kernel_passes_every_gradient(bits, axes, random):
    values = random.normal(0, 1, (3, 3, 4, 5)).astype("float32")
    incoming = random.normal(0, 1, values.shape).astype("float32")
    kernel = tf.Variable(values)
    with tf.GradientTape() as tape:
        outputs = KernelQuantizer(bits, axes)(kernel)
    gradient = tape.gradient(outputs, kernel, output_gradients=tf.constant(incoming))
    np.testing.assert_array_equal(gradient, incoming)
    step = np.abs(values).max(axis=axes, keepdims=True) / (2 ** (bits - 1) - 1)
    np.testing.assert_allclose(outputs, np.round(values / step) * step, atol=1e-6)
    assert len(np.unique(np.round(outputs.numpy() / step))) <= 2**bits - 1


@pytest.mark.parametrize(("bits", "symmetric"), ACTIVATIONS)
def test_an_exported_activation_has_the_values_it_trained_with(bits, symmetric, random):
    quantizer = activation_quantizer(bits, symmetric, -1.3, 2.9)
    values = tf.constant(random.normal(0, 2, (8, 50)).astype("float32"))
    with context.use_mode(context.EXPORT):
        exported = quantizer(values)
    np.testing.assert_array_equal(exported, quantizer(values))


def test_one_traced_step_obeys_the_switch():
    quantizer = ActivationQuantizer(ema_decay=0.5)
    quantizer.build()
    traces = []

    @tf.function
    def step(values):
        traces.append(values)
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(quantizer(values, training=True))
        return tape.gradient(loss, values)

    step(tf.constant([[-1.0, 1.5]]))
    quantizer.observing.assign(0.0)
    np.testing.assert_array_equal(step(tf.constant([[-3.0, 0.5]])), [[0.0, 1.0]])
    assert quantizer.range() == (-1.0, 1.5)
    quantizer.observing.assign(1.0)
    np.testing.assert_array_equal(step(tf.constant([[-3.0, 0.5]])), [[0.0, 1.0]])
    assert quantizer.range() == (-2.0, 1.0)
    assert len(traces) == 1
    assert float(quantizer.batches_seen.numpy()) == 2.0


def test_frozen_ranges_cost_no_pass_over_the_values():
    quantizer = ActivationQuantizer()
    quantizer.build()
    function = tf.function(lambda values: quantizer(values, training=True))
    graph = function.get_concrete_function(tf.TensorSpec((None, 4))).graph
    assert not [operation.name for operation in graph.get_operations() if operation.type in ("Min", "Max")]
    assert [operation.name for operation in graph.get_operations() if operation.type in ("If", "StatelessIf")]


@pytest.mark.parametrize(("make", "kept"), [(tf.nn.relu, True), (lambda x: x + 1.0, False)])
def test_values_that_nothing_else_keeps_are_kept_as_a_mask(make, kept):
    quantizer = ActivationQuantizer()
    quantizer.build()

    @tf.function
    def gradient(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(quantizer(make(values), training=True))
        return tape.gradient(loss, values)

    operations = gradient.get_concrete_function(tf.TensorSpec((None, 4))).graph.get_operations()
    assert any("VarsGradient" in operation.type for operation in operations) == kept


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_batch_that_overflowed_leaves_the_range_alone(bad):
    quantizer = ActivationQuantizer(ema_decay=0.5)
    quantizer.build()
    quantizer(tf.constant([[-1.0, 1.5]]), training=True)
    quantizer(tf.constant([[bad, 5.0, -5.0]]), training=True)
    assert quantizer.range() == (-1.0, 1.5)
    quantizer(tf.constant([[-2.0, 2.5]]), training=True)
    assert quantizer.range() == (-1.5, 2.0)


def test_a_range_that_cannot_be_set_says_why():
    fixed = ActivationQuantizer(fixed_range=(0.0, 1.0), name="softmax")
    fixed.build()
    with pytest.raises(ValueError, match="softmax.*fixed range"):
        fixed.set_range(0.0, 2.0)
    free = ActivationQuantizer()
    free.build()
    for low, high in ((float("nan"), 1.0), (0.0, float("inf")), (1.0, -1.0)):
        with pytest.raises(ValueError, match="two finite numbers"):
            free.set_range(low, high)
    assert not free.has_range


def test_ranges_for_litert_only_are_the_identity_in_tensorrts_view():
    quantizer = ActivationQuantizer(bits=4, litert_only=True)
    quantizer.build()
    quantizer.set_range(-1.0, 1.0)
    values = tf.constant([[0.123, 7.0]])
    assert np.any(quantizer(values).numpy() != values.numpy())
    with context.use_view("tensorrt"):
        np.testing.assert_array_equal(quantizer(values), values)
        everywhere = ActivationQuantizer(bits=4)
        everywhere.build()
        everywhere.set_range(-1.0, 1.0)
        assert np.any(everywhere(values).numpy() != values.numpy())
    assert ActivationQuantizer.from_config(quantizer.get_config()).litert_only is True
