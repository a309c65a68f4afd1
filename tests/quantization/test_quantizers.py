"""The numerics are TFMOT's own: same values, same ranges, same gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones.keras_compat import keras, tfmot_quantizers
from resnet_backbones.quantization import ActivationQuantizer, KernelQuantizer

tfmot = tfmot_quantizers()


def tfmot_variables(low, high):
    return {"min_var": tf.Variable(low, dtype=tf.float32), "max_var": tf.Variable(high, dtype=tf.float32)}


def activation_quantizer(**arguments):
    quantizer = ActivationQuantizer(**arguments)
    quantizer.build()
    return quantizer


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("axes", [(0, 1, 2), None])
def test_kernels_are_quantized_as_tfmot_does(bits, axes, random):
    kernel = random.normal(0, 0.3, (3, 3, 8, 16)).astype("float32") * random.uniform(0.1, 4, 16).astype("float32")
    theirs = tfmot.LastValueQuantizer(num_bits=bits, per_axis=axes is not None, symmetric=True, narrow_range=True)
    variables = tfmot_variables(*((np.zeros(16), np.ones(16)) if axes else (0.0, 1.0)))
    expected = theirs(tf.constant(kernel), training=True, weights=variables)
    np.testing.assert_allclose(KernelQuantizer(bits, axes)(tf.constant(kernel)), expected, atol=1e-6)


def test_the_gradient_of_a_kernel_is_tfmots(random):
    kernel = tf.constant(random.normal(0, 1, (1, 1, 4, 5)).astype("float32"))
    weight = tf.constant(random.normal(0, 1, (1, 1, 4, 5)).astype("float32"))
    theirs = tfmot.LastValueQuantizer(num_bits=8, per_axis=True, symmetric=True, narrow_range=True)
    variables = tfmot_variables(np.zeros(5), np.ones(5))
    gradients = []
    for quantize in (KernelQuantizer(8, (0, 1, 2)), lambda k: theirs(k, training=True, weights=variables)):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            loss = tf.reduce_sum(quantize(kernel) * weight)
        gradients.append(tape.gradient(loss, kernel))
    np.testing.assert_allclose(gradients[0], gradients[1])


def test_a_channel_of_zeros_stays_zero():
    kernel = np.zeros((3, 3, 2, 2), "float32")
    kernel[..., 1] = 0.5
    np.testing.assert_allclose(KernelQuantizer(8, (0, 1, 2))(tf.constant(kernel)), kernel, atol=1e-7)


def test_activation_ranges_follow_tfmots_moving_average_and_give_its_values(random):
    ours = activation_quantizer(ema_decay=0.999)
    ours.range_min.assign(-6.0)
    ours.range_max.assign(6.0)
    ours.batches_seen.assign(1.0)  # TFMOT counts its -6..6 as a range; ours as none until a batch was seen
    theirs = tfmot.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
    variables = tfmot_variables(-6.0, 6.0)
    for step in range(5):
        values = tf.constant(random.normal(step, 2, (2, 5, 5, 3)).astype("float32"))
        expected = theirs(values, training=True, weights=variables)
        np.testing.assert_allclose(ours(values, training=True), expected, atol=1e-6)
        np.testing.assert_allclose(ours.range_min, variables["min_var"], rtol=1e-6)
        np.testing.assert_allclose(ours.range_max, variables["max_var"], rtol=1e-6)
    expected = theirs(values, training=False, weights=variables)
    np.testing.assert_allclose(ours(values, training=False), expected, atol=1e-6)


def test_the_gradient_of_an_activation_is_tfmots(random):
    values = tf.constant(random.normal(0, 3, (4, 7)).astype("float32"))
    ours = activation_quantizer()
    ours.range_min.assign(-2.0)
    ours.range_max.assign(3.0)
    theirs = tfmot.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
    gradients = []
    for quantize in (ours, lambda v: theirs(v, training=False, weights=tfmot_variables(-2.0, 3.0))):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(quantize(values) ** 2)
        gradients.append(tape.gradient(loss, values))
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-6)
    assert np.any(gradients[0].numpy() == 0)  # values outside the range: clipped, no gradient


def test_the_first_batch_sets_an_unknown_range():
    ours = activation_quantizer()
    assert not ours.has_range
    ours(tf.constant([[-1.0, 5.0]]), training=True)
    assert ours.has_range
    assert ours.range() == pytest.approx((-1.0, 5.0))


def test_zero_is_always_inside_the_range():
    ours = activation_quantizer()
    ours(tf.constant([[2.0, 5.0]]), training=True)
    assert ours.range()[0] == 0.0


def test_frozen_ranges_do_not_move():
    ours = activation_quantizer(ema_decay=0.5)
    ours(tf.constant([[-1.0, 1.5]]), training=True)
    ours.observing.assign(0.0)
    ours(tf.constant([[-9.0, 9.0]]), training=True)
    assert ours.range() == pytest.approx((-1.0, 1.5))


@pytest.mark.parametrize("observed", [False, True])
def test_rescaled_pixels_lie_on_no_edge_between_two_steps(observed):
    """In a range of -1 to 1, zero lies between two integers and each of the 256 pixels on an edge."""
    ours = activation_quantizer()
    pixels = np.arange(256) / 127.5 - 1.0
    if observed:
        ours(tf.constant(pixels[None], tf.float32), training=True)
    else:
        ours.set_range(-1.0, 1.0)
    low, high = ours.range()
    step = (high - low) / 255
    assert (low, high) == pytest.approx((-1.0, 128 / 127))
    assert -low / step == pytest.approx(127.0)
    from_an_edge = np.abs((pixels - low) / step % 1.0 - 0.5)
    assert from_an_edge.min() > 1e-3
    nudged = ours(tf.constant(pixels[None] + 1e-6, tf.float32))
    np.testing.assert_array_equal(ours(tf.constant(pixels[None], tf.float32)), nudged)


def test_a_symmetric_range_needs_no_such_room():
    ours = activation_quantizer(symmetric=True)
    ours.set_range(-1.0, 1.0)
    assert ours.range() == (-1.0, 1.0)


def test_a_fixed_range_never_moves():
    ours = activation_quantizer(fixed_range=(0.0, 255 / 256))
    ours(tf.constant([[-9.0, 9.0]]), training=True)
    assert ours.has_range
    assert ours.range() == pytest.approx((0.0, 255 / 256))


def test_half_precision_is_quantized_in_float32():
    ours = activation_quantizer()
    ours.range_min.assign(0.0)
    ours.range_max.assign(255.0)
    values = tf.constant([[100.2, 100.7, 200.4]], tf.bfloat16)
    quantized = ours(values)
    assert quantized.dtype == tf.bfloat16
    # bfloat16 holds 100.5 for both of the first; the grid of the range has steps of 1.
    expected = tf.cast(
        tf.quantization.fake_quant_with_min_max_vars(tf.cast(values, tf.float32), 0.0, 255.0), tf.bfloat16
    )
    np.testing.assert_array_equal(tf.cast(quantized, tf.float32), tf.cast(expected, tf.float32))


def test_its_configuration_round_trips():
    ours = activation_quantizer(bits=4, symmetric=True, ema_decay=0.9)
    again = ActivationQuantizer.from_config(ours.get_config())
    assert (again.bits, again.symmetric, again.ema_decay, again.fixed_range) == (4, True, 0.9, None)
    assert isinstance(again, keras.layers.Layer)
