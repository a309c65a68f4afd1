"""Fake quantization, hosted on either Keras.

TensorFlow Model Optimization's (TFMOT's) quantizer classes say how a tensor is quantized and create the variables
that hold a range; they know tf_keras layers only, so a small host stands between. What they compute is computed
here in a form that can be frozen without retracing, runs in float32 under mixed precision and, for kernels, costs a
tenth; tests hold it equal to TFMOT's own.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2017, https://arxiv.org/abs/1712.05877
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import (
    float32_variable,
    kept_in_checkpoints,
    keras,
    same_on_every_replica,
    serializable,
    tfmot_quantizers,
)
from resnet_backbones.quantization import context
from resnet_backbones.quantization.kernel_quantizer import KernelQuantizer, read
from resnet_backbones.quantization.replicas import bounds_over_replicas

__all__ = ["ActivationQuantizer", "BatchNormFreeze", "KernelQuantizer", "read"]


#: Steps so much smaller move halves of averages over the edge, and nothing else: it is more than float32 is off by.
BEYOND_HALVES = 1 - 2.0**-14
# An exported range is at least this wide; one narrower, of a tensor that was always zero, becomes 1 wide: a convolution
# whose result has far smaller steps than its sums, LiteRT's XNNPACK refuses (the ratio must be below 256).
MINIMUM_WIDTH = 1e-5


class _VariableHost:
    """Gives TFMOT's quantizers the ``add_weight`` they expect of a layer."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def add_weight(self, name: str, shape: Any = None, initializer: Any = None, trainable: bool = False) -> Any:
        shape = () if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        variable = self._layer.add_weight(
            name=name, shape=shape, initializer=initializer, trainable=trainable, aggregation=same_on_every_replica()
        )
        return kept_in_checkpoints(self._layer, name, float32_variable(variable))


def kept_by_its_own_gradient(tensor: tf.Tensor) -> bool:
    """Whether the operation that made a graph's tensor keeps it for its own gradient, as ReLU does."""
    if tf.executing_eagerly():
        return True
    operation = tensor.op
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    return operation.type in ("Relu", "Relu6", "MaxPool", "Sigmoid", "Softmax", "Tanh")


@serializable("ActivationQuantizer")
class ActivationQuantizer(keras.layers.Layer):
    """Fake-quantizes one tensor with one range.

    The range starts at TFMOT's -6..6 and counts as unknown until a batch was observed. Calibration sets it; in training
    it is an exponential moving average while ``observing`` is 1, and stands still when that is 0. The replicas of a
    ``tf.distribute`` strategy move it by the smallest and largest value that any of them saw.

    Args:
        bits: of the quantized value, 2 to 16.
        symmetric: whether the range is symmetric about zero.
        ema_decay: of the moving average.
        fixed_range: (min, max) that never changes, e.g. (0, 255/256) after a softmax; ``None`` observes. Within
            ``context.use_view("tensorrt")``, where there are no zero points, it reaches as far below zero as above.
        litert_only: the identity within ``context.use_view("tensorrt")``.
    """

    def __init__(self, bits=8, symmetric=False, ema_decay=0.999, fixed_range=None, litert_only=False, **kwargs) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True  # it hands a mask on
        self.bits, self.symmetric, self.ema_decay = bits, symmetric, ema_decay
        self.litert_only = litert_only
        self.fixed_range = None if fixed_range is None else tuple(fixed_range)
        self.quantizer = tfmot_quantizers().MovingAverageQuantizer(
            num_bits=bits, per_axis=False, symmetric=symmetric, narrow_range=symmetric
        )

    def build(self, input_shape=None) -> None:
        if self.built:
            return
        host = _VariableHost(self)
        ranges = self.quantizer.build(None, "range", host)
        # Plain attributes of tf.Variables already tracked by add_weight: set past Keras' attribute tracking.
        self.__dict__["range_min"], self.__dict__["range_max"] = ranges["min_var"], ranges["max_var"]
        self.__dict__["batches_seen"] = host.add_weight("batches_seen", initializer="zeros")
        self.__dict__["observing"] = host.add_weight("observing", initializer="ones")
        if self.fixed_range is not None:
            self.range_min.assign(self.fixed_range[0])
            self.range_max.assign(self.fixed_range[1])
            self.batches_seen.assign(1.0)
            self.observing.assign(0.0)
        self.built = True

    @property
    def has_range(self) -> bool:
        """Whether a range was set, observed or fixed."""
        return read(self.batches_seen) > 0

    def range(self) -> tuple[float, float]:
        """(min, max), as an export writes it: zero inside, never empty."""
        low, high = min(float(read(self.range_min)), 0.0), max(float(read(self.range_max)), 0.0)
        if high - low < MINIMUM_WIDTH:
            low, high = (-1.0, 1.0) if self.symmetric else (0.0, 1.0)
        return low, high

    def step(self):
        """The size of a step of the integers, of the range as it is now: a float32 scalar."""
        low, high = tf.minimum(tf.convert_to_tensor(self.range_min), 0.0), tf.maximum(self.range_max, 0.0)
        width = high - low if self.symmetric or not self._narrow else 2.0 * tf.maximum(-low, high)
        width = tf.where(width < MINIMUM_WIDTH, 2.0 if self.symmetric else 1.0, width)
        return width / (2**self.bits - 1 - self._narrow)

    def in_steps(self, values, smaller=0):
        """Averages of quantized values, rounded to the same steps, halves away from zero; gradients pass through.

        It is the zero of LiteRT's integers. The last bits are dropped first, so that halves are halves.

        Args:
            values: a tensor.
            smaller: for TensorRT, how many averages stand one behind the other, this one too: a file makes the steps of
                each by ``BEYOND_HALVES`` smaller than those of what it reads.
        """
        if self.litert_only and context.view() == "tensorrt":
            return values
        return context.rounded_if_chosen(self, lambda: self._in_steps(values, smaller), values)

    def _in_steps(self, values, smaller):
        step = self.step() * BEYOND_HALVES ** max(0, smaller - 1)
        lowest = tf.minimum(tf.convert_to_tensor(self.range_min), 0.0)
        zero = 0.0 if self._narrow else -(2.0 ** (self.bits - 1)) - tf.round(lowest / step)
        size = BEYOND_HALVES if smaller else 1.0
        integers = (tf.round(tf.cast(values, tf.float32) / step * 4096.0) / 4096.0 + zero) / size
        whole = (tf.sign(integers) * tf.floor(tf.abs(integers) + 0.5) - zero) * size
        return values + tf.stop_gradient(tf.cast(whole * step, values.dtype) - values)

    def sound_range(self, low: float, high: float) -> tuple[float, float]:
        """A range as this quantizer can have it: widened until zero is inside and, if symmetric, to its larger side.

        If not symmetric, -a to a becomes a step longer above. Its zero would lie halfway between two integers, and
        pixels rescaled to -1 to 1 all on edges between two steps, where the last bit decides which of them they take.

        Args:
            low: the smallest value.
            high: the largest.

        Raises:
            ValueError: this range is fixed, or the new one not finite or the wrong way round.
        """
        if self.fixed_range is not None:
            raise ValueError(f"{self.name!r} has the fixed range {self.fixed_range}; it cannot be set.")
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise ValueError(f"{self.name!r}: a range is two finite numbers, the smaller one first; got {low}, {high}.")
        low, high = min(low, 0.0), max(high, 0.0)
        if self.symmetric:
            return min(low, -high), max(high, -low)
        return low, high * self._room_for_zero if low == -high else high

    @property
    def _room_for_zero(self) -> float:
        """What the upper bound of a range -a to a is raised by, so that zero is an integer: for 8 bits 128/127."""
        half = 2 ** (self.bits - 1)
        return half / (half - 1)

    def set_range(self, low: float, high: float, batches: int = 1) -> None:
        """Sets the range to :meth:`sound_range`; it counts as known from now on.

        Args:
            low: the smallest value.
            high: the largest.
            batches: how many batches it was read off.
        """
        low, high = self.sound_range(low, high)
        self.range_min.assign(low)
        self.range_max.assign(high)
        self.batches_seen.assign(float(batches))

    def reset(self) -> None:
        """Forgets the range: the next batch observed sets it anew."""
        if self.fixed_range is None:
            self.batches_seen.assign(0.0)

    def call(self, inputs, training=None, observe=True):
        if context.mode() == context.CALIBRATE:
            if observe:
                context.record(self, inputs)
            return inputs
        if self.litert_only and context.view() == "tensorrt":
            return inputs
        return context.rounded_if_chosen(self, lambda: self._rounded(inputs, context.trains(training), observe), inputs)

    def _rounded(self, inputs, training, observe):
        values = tf.cast(inputs, tf.float32)
        if context.mode() in context.EXPORTS:
            low, high = (tf.constant(bound, tf.float32) for bound in self.range())
        elif training and observe and self.fixed_range is None:
            low, high = self._observe(values)
        else:
            low, high = self.range_min, self.range_max
        if self._narrow and not self.symmetric:
            high = tf.maximum(-tf.convert_to_tensor(low), tf.convert_to_tensor(high))
            low = -high
        values = context.nudged(values, low, high, 2**self.bits - 1 - self._narrow)
        keeps_values = not training or kept_by_its_own_gradient(values)
        fake_quantize = self._fake_quantized if keeps_values else self._fake_quantized_by_mask
        return tf.cast(fake_quantize(values, low, high), inputs.dtype)

    @property
    def _narrow(self) -> bool:
        """Whether the range is symmetric in the view that holds now."""
        return self.symmetric or (self.fixed_range is not None and context.view() == "tensorrt")

    def _fake_quantized(self, values, low, high):
        return tf.quantization.fake_quant_with_min_max_vars(
            values, low, high, num_bits=self.bits, narrow_range=self._narrow
        )

    def _fake_quantized_by_mask(self, values, low, high):
        """The same, with the same gradient, for which a byte a value is kept instead of four.

        It takes a fifth longer, so it is for values that nothing else keeps until the gradient is computed.
        """
        lowest, highest = tf.unstack(self._fake_quantized(tf.constant([-1e38, 1e38]), low, high))

        @tf.custom_gradient
        def quantize(values):
            inside = (values >= lowest) & (values <= highest)
            return self._fake_quantized(values, low, high), lambda gradient: tf.where(inside, gradient, 0.0)

        return quantize(values)

    def _observe(self, values):
        """Moves the range towards the batch's, and returns it.

        Everything hangs on variables, so that a traced train step obeys a switch: once frozen, the two passes over
        the values, a fifth of what quantizing costs, are left out. A batch with NaN or infinity, as half precision
        may overflow to, leaves the range alone.
        """
        values = tf.stop_gradient(values)
        low, high = tf.cond(
            self.observing > 0.5,
            lambda: (tf.reduce_min(values), tf.reduce_max(values)),
            lambda: (tf.constant(0.0), tf.constant(0.0)),
        )
        low, high = bounds_over_replicas(low, high)
        usable = tf.math.is_finite(low) & tf.math.is_finite(high)
        observed = tf.where(usable, self.observing, 0.0)
        low, high = tf.where(usable, tf.minimum(low, 0.0), 0.0), tf.where(usable, tf.maximum(high, 0.0), 0.0)
        if self.symmetric:  # narrow range, so that the bound is the same on both sides
            low, high = tf.minimum(low, -high), tf.maximum(high, -low)
        else:  # as in sound_range
            high = tf.where(tf.equal(low, -high), high * self._room_for_zero, high)
        decay = tf.where(tf.equal(self.batches_seen, 0.0), 0.0, self.ema_decay)
        step = observed * (1.0 - decay)
        new_low = self.range_min + step * (low - self.range_min)
        new_high = self.range_max + step * (high - self.range_max)
        self.range_min.assign(new_low)
        self.range_max.assign(new_high)
        self.batches_seen.assign_add(observed)
        return new_low, new_high

    def get_config(self) -> dict[str, Any]:
        config = {"bits": self.bits, "symmetric": self.symmetric, "ema_decay": self.ema_decay}
        config |= {"fixed_range": self.fixed_range, "litert_only": self.litert_only}
        return {**super().get_config(), **config}


@serializable("BatchNormFreeze")
class BatchNormFreeze(keras.layers.Layer):
    """Holds the switch that stops a batch norm's statistics: a variable, so a traced train step obeys it at once."""

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def build(self, input_shape=None) -> None:
        if not self.built:
            self.__dict__["frozen"] = _VariableHost(self).add_weight("frozen", initializer="zeros")
            self.built = True

    def call(self, inputs):
        return inputs
