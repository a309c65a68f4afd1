"""The bias as integer kernels add it: in whole steps of the accumulator, a step of the input times one of the kernel.

That changes a result by less than a hundredth of its step. Left out, file and Keras model part all the same: now and
then a result falls on the other side of an edge, a whole step off, which moves those computed of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import float32_variable, keras
from resnet_backbones.quantization.export_forms import least_of_largest
from resnet_backbones.quantization.kernel_quantizer import KernelQuantizer

_LARGEST = 2.0**31  # in steps: what an int32 holds
MOST_BIAS = 2**31 - 2**28  # leaves the sums of a 32 bit accumulator the rest
MOST_WRITTEN = 2**28  # of larger ones LiteRT's converter makes the steps larger itself, each in its own way
_MOST_OF_16_BITS = 2**44  # LiteRT multiplies sums of 16-bit activations, of 64 bits, by 2^-31 at least, to 16 bits


@dataclass(frozen=True, eq=False)
class BiasRounding:
    """How one call's bias is rounded.

    Attributes:
        weighted: the layer whose kernel the accumulators sum up; of a batch norm that stands alone, itself.
        kernels: its kernels, as in its hook; the last one counts.
        read: the quantizer of what it reads, which has a ``step()``.
    """

    weighted: Any
    kernels: Mapping[str, tuple[Any, KernelQuantizer]]
    read: Any

    def rounded(self, layer: Any) -> dict[str, Any]:
        """What to use instead of an attribute of the layer that adds the bias; gradients pass through the rounding.

        Args:
            layer: the weighted layer, or the batch norm behind it.

        Returns:
            ``{"bias": ...}`` or ``{"beta": ...}``, float32 or the layer's compute type, a value a channel; empty where
            the layer has neither: what a batch norm without ``beta`` adds stays unrounded.
        """
        if isinstance(layer, keras.layers.BatchNormalization):
            return self._of_batch_norm(layer)
        if getattr(layer, "bias", None) is None:
            return {}
        bias = _values(layer.bias)
        return {"bias": tf.cast(bias + _error(bias, self._steps()), layer.compute_dtype)}

    def _of_batch_norm(self, layer: Any) -> dict[str, Any]:
        if layer.beta is None:
            return {}
        factor, mean = self.factor_and_mean(layer)
        beta = _values(layer.beta)
        size = tf.abs(factor)
        alive = size >= least_of_largest(self.read.bits) * tf.reduce_max(size)
        steps = size * (self._steps() if self.kernels else tf.cast(self.read.step(), tf.float64) / 127.0)
        error = _error(tf.cast(beta, tf.float64) - mean * factor, steps)
        return {"beta": beta + tf.cast(tf.where(alive, error, 0.0), beta.dtype)}

    def factor_and_mean(self, layer: Any) -> tuple[Any, Any]:
        """What a batch norm multiplies by, and what it subtracts before from what is summed up: float64."""
        factor = tf.math.rsqrt(tf.cast(_values(layer.moving_variance), tf.float64) + layer.epsilon)
        if layer.gamma is not None:
            factor *= tf.cast(_values(layer.gamma), tf.float64)
        bias = None if self.weighted is layer else getattr(self.weighted, "bias", None)
        return factor, tf.cast(_values(layer.moving_mean) - (0.0 if bias is None else _values(bias)), tf.float64)

    def least_scale(self, layer: Any) -> np.ndarray | None:
        """The smallest scale of each channel of the kernel, or of a batch norm that stands alone, that leaves its bias
        room in what LiteRT's kernels sum up in.

        Args:
            layer: the weighted layer, or the batch norm behind it.

        Returns:
            An array, one number a channel of the result, batch norm not folded; ``None`` where nothing is added.
        """
        added = self.added(layer)
        if added is None:
            return None
        most = MOST_WRITTEN if self.read.bits <= 8 else _MOST_OF_16_BITS
        with tf.init_scope():
            return np.abs(added[0]) / (most * float(self.read.step()) * added[1])

    def added(self, layer: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """What a LiteRT file adds: the values, one a channel, and what a batch norm multiplies the kernel's scale by.

        Args:
            layer: as for :meth:`least_scale`.

        Returns:
            Two float64 arrays; ``None`` where nothing is added.
        """
        with tf.init_scope():
            if isinstance(layer, keras.layers.BatchNormalization):
                factor, mean = (values.numpy() for values in self.factor_and_mean(layer))
                beta = 0.0 if layer.beta is None else _values(layer.beta).numpy().astype(np.float64)
                size = np.abs(factor)
                least = least_of_largest(self.read.bits) * (size.max() or 1.0)
                return beta - mean * factor, np.maximum(size, least)  # as in the file
            bias = getattr(layer, "bias", None)
            return None if bias is None else (_values(bias).numpy().astype(np.float64), np.ones(()))

    def fitting(self, layer: Any) -> dict[str, Any]:
        """What to use instead of an attribute of the layer while a file is made whose activations have 16 bits.

        The converter writes biases in 32 bits and makes a kernel's steps larger where they do not fit. What does not
        is cut here, and put into the file afterwards, which holds 64 bits (``export/wide_biases.py``).

        Args:
            layer: as for :meth:`rounded`.

        Returns:
            Attribute -> an array, float32, or a switch; of a batch norm by itself its scales too, those of channels
            all but switched off made larger, as :meth:`least_scale` makes kernels'. Empty where all fits.
        """
        added = None if self.read.bits <= 8 else self.added(layer)
        if added is None:
            return {}
        with tf.init_scope():
            scale = self._steps().numpy() if self.kernels else float(self.read.step()) / 127.0
            most = MOST_WRITTEN * scale * added[1]
            missing = np.clip(added[0], -most, most) - added[0]
            if not np.any(missing):
                return {}
            if not isinstance(layer, keras.layers.BatchNormalization):
                return {"bias": _values(layer.bias).numpy() + missing.astype(np.float32)}
            beta = 0.0 if layer.beta is None else _values(layer.beta).numpy()
            found = {"center": True, "beta": beta + missing.astype(np.float32)}
            if self.kernels:
                return found
            factor, least = self.factor_and_mean(layer)[0].numpy(), np.abs(added[0]) / (_MOST_OF_16_BITS * scale)
            own = 1.0 if layer.gamma is None else _values(layer.gamma).numpy().astype(np.float64)
            needed = np.maximum(np.abs(own), least * np.abs(own / np.where(factor == 0.0, 1.0, factor)))
            return {**found, "scale": True, "gamma": np.copysign(needed, own).astype(np.float32)}

    def _steps(self):
        """Size of the accumulators' steps, one a channel of the result or one for all."""
        *_, (variable, quantizer) = self.kernels.values()
        scale = tf.reshape(quantizer.file_scale(_values(variable)), [-1])
        return tf.cast(self.read.step(), tf.float64) * tf.cast(scale, tf.float64)


def _values(variable: Any) -> Any:
    return tf.convert_to_tensor(float32_variable(variable))


def _error(values: Any, steps: Any) -> Any:
    """What rounding to whole steps adds, in the values' precision; nothing where an int32 does not hold them."""
    exact = tf.cast(values, tf.float64)
    whole = tf.round(tf.math.divide_no_nan(exact, steps))
    error = tf.where((steps > 0.0) & (tf.abs(whole) < _LARGEST), whole * steps - exact, 0.0)
    return tf.stop_gradient(tf.cast(error, values.dtype))
