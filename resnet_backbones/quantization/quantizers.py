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

from resnet_backbones.keras_api import float32_variable, keras, serializable, tfmot_quantizers
from resnet_backbones.quantization import context

_tfmot = tfmot_quantizers()

# An exported range is at least this wide; one narrower, of a tensor that was always zero, becomes 1 wide: a convolution
# whose result has far smaller steps than its sums, LiteRT's XNNPACK refuses (the ratio must be below 256).
MINIMUM_WIDTH = 1e-5


def read(variable: Any) -> np.ndarray:
    """A variable's value now, also while a function is being traced; a constant array itself."""
    if isinstance(variable, np.ndarray):
        return variable
    with tf.init_scope():
        return variable.numpy()


class _VariableHost:
    """Gives TFMOT's quantizers the ``add_weight`` they expect of a layer."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def add_weight(self, name: str, shape: Any = None, initializer: Any = None, trainable: bool = False) -> Any:
        shape = () if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        variable = self._layer.add_weight(name=name, shape=shape, initializer=initializer, trainable=trainable)
        return float32_variable(variable)


@serializable("ActivationQuantizer")
class ActivationQuantizer(keras.layers.Layer):
    """Fake-quantizes one tensor with one range.

    The range starts at TFMOT's -6..6 and counts as unknown until a batch was observed: in calibration it is widened
    to all that is seen; in training it is an exponential moving average while ``observing`` is 1, still when it is 0.

    Args:
        bits: of the quantized value, 2 to 16.
        symmetric: whether the range is symmetric about zero.
        ema_decay: of the moving average.
        fixed_range: (min, max) that never changes, e.g. (0, 255/256) behind a softmax; ``None`` observes.
    """

    def __init__(self, bits=8, symmetric=False, ema_decay=0.999, fixed_range=None, **kwargs) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)
        self.bits, self.symmetric, self.ema_decay = bits, symmetric, ema_decay
        self.fixed_range = None if fixed_range is None else tuple(fixed_range)
        self.quantizer = _tfmot.MovingAverageQuantizer(
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

    def reset(self) -> None:
        """Forgets the range: the next batch observed sets it anew."""
        if self.fixed_range is None:
            self.batches_seen.assign(0.0)

    def call(self, inputs, training=None):
        if context.mode() == context.CALIBRATE:
            self._widen(tf.cast(inputs, tf.float32))
            return inputs
        values = tf.cast(inputs, tf.float32)
        if context.mode() == context.EXPORT:
            low, high = (tf.constant(bound, tf.float32) for bound in self.range())
        elif training and self.fixed_range is None:
            low, high = self._observe(values)
        else:
            low, high = self.range_min, self.range_max
        quantized = tf.quantization.fake_quant_with_min_max_vars(
            values, low, high, num_bits=self.bits, narrow_range=self.symmetric
        )
        return tf.cast(quantized, inputs.dtype)

    def _batch_range(self, values):
        low, high = tf.reduce_min(values), tf.reduce_max(values)
        if self.symmetric:  # narrow range, so that the bound is the same on both sides
            low, high = tf.minimum(low, -high), tf.maximum(high, -low)
        return tf.stop_gradient(tf.minimum(low, 0.0)), tf.stop_gradient(tf.maximum(high, 0.0))

    def _widen(self, values) -> None:
        if self.fixed_range is not None:
            return
        low, high = self._batch_range(values)
        first = tf.equal(self.batches_seen, 0.0)
        self.range_min.assign(tf.where(first, low, tf.minimum(self.range_min, low)))
        self.range_max.assign(tf.where(first, high, tf.maximum(self.range_max, high)))
        self.batches_seen.assign_add(1.0)

    def _observe(self, values):
        low, high = self._batch_range(values)
        decay = tf.where(tf.equal(self.batches_seen, 0.0), 0.0, self.ema_decay)
        step = self.observing * (1.0 - decay)  # 0 once frozen: a variable, so no retracing
        new_low = self.range_min + step * (low - self.range_min)
        new_high = self.range_max + step * (high - self.range_max)
        self.range_min.assign(new_low)
        self.range_max.assign(new_high)
        self.batches_seen.assign_add(self.observing)
        return new_low, new_high

    def get_config(self) -> dict[str, Any]:
        config = {"bits": self.bits, "symmetric": self.symmetric, "ema_decay": self.ema_decay}
        return {**super().get_config(), **config, "fixed_range": self.fixed_range}


class KernelQuantizer:
    """Fake-quantizes a kernel: symmetric, narrow range, the range being the kernel's own largest magnitude.

    The range is read off the kernel at every call, so it is never a step behind the weights (TFMOT stores the
    range of the last training step). It holds no variables.

    Args:
        bits: of the quantized value, 2 to 8.
        axes: axes reduced to find a range; the others (the output channels) have a range each. ``None``: one range.
    """

    def __init__(self, bits: int, axes: tuple[int, ...] | None) -> None:
        self.bits, self.axes = bits, axes
        self.quantizer = _tfmot.LastValueQuantizer(
            num_bits=bits, per_axis=axes is not None, symmetric=True, narrow_range=True
        )

    def bound(self, kernel):
        """Largest magnitude of each range, in the kernel's rank."""
        return tf.reduce_max(tf.abs(kernel), axis=self.axes, keepdims=True)

    def __call__(self, kernel):
        if context.mode() == context.EXPORT:
            return self._exported(kernel)
        scale = self.bound(kernel) / (2 ** (self.bits - 1) - 1)
        quantized = tf.round(tf.math.divide_no_nan(kernel, scale)) * scale
        return kernel + tf.stop_gradient(quantized - kernel)  # no value is clipped, so the gradient is the identity

    def _exported(self, kernel):
        values = read(kernel)
        with tf.init_scope():
            bound = self.bound(values).numpy().reshape(-1)
        bound = np.where(bound > 0, bound, 1e-3 * (bound.max() or 1.0)).astype(np.float32)  # zeros need a scale too
        if self.axes is None:
            return tf.quantization.fake_quant_with_min_max_vars(
                tf.constant(values), -bound[0], bound[0], num_bits=self.bits, narrow_range=True
            )
        if bound.size != values.shape[-1]:
            return tf.constant(self._on_grid(values))
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(
            tf.constant(values), -bound, bound, num_bits=self.bits, narrow_range=True
        )

    def _on_grid(self, values: np.ndarray) -> np.ndarray:
        """Kernels whose channels are not the last axis, depthwise ones, as the values training saw.

        The operator for ranges per channel takes the last axis only. The converter gives a constant kernel of a
        convolution with int8 input and output ranges per channel itself, by the largest magnitude: the same grid.
        """
        with tf.init_scope():
            scale = self.bound(values).numpy() / (2 ** (self.bits - 1) - 1)
        return (np.round(np.divide(values, scale, where=scale > 0, out=np.zeros_like(values))) * scale).astype(
            "float32"
        )


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
