"""Fake quantization of kernels: a symmetric range an output channel, read off the kernel itself.

Source: Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018,
https://arxiv.org/abs/1806.08342
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import tfmot_quantizers
from resnet_backbones.quantization import context

_FILE_BITS = (4, 8)  # that LiteRT holds a convolution's kernel in
MOST_FOLDED = 2**30  # bits of operands from which LiteRT's converter computes a constant
_NO_BOUND = 1e-3  # of the largest bound: that of a range in which all is zero


def read(variable: Any) -> np.ndarray:
    """A variable's value now, also while a function is being traced; a constant array itself."""
    if isinstance(variable, np.ndarray):
        return variable
    with tf.init_scope():
        return variable.numpy()


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
        self.quantizer = tfmot_quantizers().LastValueQuantizer(
            num_bits=bits, per_axis=axes is not None, symmetric=True, narrow_range=True
        )

    def bound(self, kernel):
        """Largest magnitude of each range, in the kernel's rank."""
        return tf.reduce_max(tf.abs(kernel), axis=self.axes, keepdims=True)

    def file_scale(self, kernel):
        """The scale of each range as a LiteRT file holds the kernel, in the kernel's rank."""
        bits = self.bits if self.axes == (0, 1, 2) and self.bits in _FILE_BITS else 8
        bound = self.bound(kernel)
        return tf.where(bound > 0, bound, _NO_BOUND * tf.reduce_max(bound)) / (2 ** (bits - 1) - 1)

    def __call__(self, kernel, least_scale=None):
        """The kernel, rounded.

        Args:
            kernel: a variable, or a constant array.
            least_scale: for a LiteRT file, one number a channel: a smaller scale would leave its bias no room.
        """
        if context.mode() == context.EXPORT:
            return self._exported(kernel, least_scale)
        if context.mode() == context.EXPORT_PLAIN:
            return context.now().given_kernels[id(self)]

        @tf.custom_gradient  # no value is clipped, so the gradient is the identity: two passes less than writing it so
        def quantize(values):
            scale = self.bound(values) / (2 ** (self.bits - 1) - 1)
            return tf.round(tf.math.divide_no_nan(values, scale)) * scale, tf.identity

        values = tf.convert_to_tensor(kernel)
        return context.rounded_if_chosen(self, lambda: quantize(values), values)

    def integers(self, kernel: Any) -> tuple[np.ndarray, np.ndarray]:
        """The kernel as training quantizes it, now.

        Args:
            kernel: a variable, or a constant array.

        Returns:
            int8 integers of the kernel's shape, and float32 scales that broadcast to it; an integer times its scale is
            the value training saw. Where all of a range is zero, so is its scale.
        """
        values = read(kernel)
        with tf.init_scope():
            scale = self.bound(values).numpy() / np.float32(2 ** (self.bits - 1) - 1)
        whole = np.round(np.divide(values, scale, where=scale > 0, out=np.zeros_like(values)))
        return whole.astype(np.int8), scale.astype(np.float32)

    def _exported(self, kernel, least_scale=None):
        values = read(kernel)
        with tf.init_scope():
            bound = self.bound(values).numpy().reshape(-1)
        bound = np.where(bound > 0, bound, _NO_BOUND * (bound.max() or 1.0)).astype(np.float32)
        if least_scale is not None:
            per_channel = self.axes == (0, 1, 2) and self.bits in _FILE_BITS
            levels = 2 ** (self.bits - 1) - 1 if per_channel or self.axes is None else 127
            least = (np.max(least_scale) if self.axes is None else least_scale) * levels
            if np.any(least > bound):
                values = self._with_room(values, np.maximum(bound, least).astype(np.float32), least > bound)
                bound = np.maximum(bound, least).astype(np.float32)
        if self.axes is None:
            return tf.quantization.fake_quant_with_min_max_vars(
                self._on_grid(values), -bound[0], bound[0], num_bits=self.bits, narrow_range=True
            )
        if self.axes != (0, 1, 2) or self.bits not in _FILE_BITS:
            return self._on_grid(values)
        # On the grid already: what the converter rounds, having folded batch norm in float32, is near no half step.
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(
            self._on_grid(values), -bound, bound, num_bits=self.bits, narrow_range=True
        )

    def _with_room(self, values: np.ndarray, bound: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """The kernel, with one value of each changed channel raised to the bound: the converter reads ranges off it.

        What that adds to a result is a hundred-thousandth of the bias that needs the room.
        """
        if self.axes is None:
            return values
        kept = [axis for axis in range(values.ndim) if axis not in self.axes]
        whole, scale = self.integers(values)
        flat = np.moveaxis(whole * scale, kept, range(-len(kept), 0)).reshape(-1, bound.size)
        largest = np.argmax(np.abs(flat), axis=0)
        channels = np.flatnonzero(changed)
        flat[largest[channels], channels] = np.copysign(bound[channels], flat[largest[channels], channels])
        moved = [values.shape[axis] for axis in (*[a for a in range(values.ndim) if a not in kept], *kept)]
        return np.moveaxis(flat.reshape(moved), range(-len(kept), 0), kept)

    def _on_grid(self, values: np.ndarray) -> Any:
        """The kernel as the values training saw, a constant tensor.

        The operator for ranges per channel takes the last axis only, and on a matrix it does not convert. The converter
        gives a constant kernel of an operator with int8 input and output ranges per channel itself, by the largest
        magnitude: the same grid for 8 bits; values of fewer bits lie on it to half of its steps. LiteRT holds
        kernels of plain convolutions in 4 bits as such, others of fewer than 8 bits in 8.

        It is written as int16 and multiplied by the converter, which holds a dozen copies of every constant: half the
        memory and time of floats, for the same file. From int8 the converter does not compute a kernel: it folds what
        grows by a factor of two at most, and from no more than ``MOST_FOLDED``.
        """
        whole, scale = self.integers(values)
        if (values.size + scale.size) * 32 > MOST_FOLDED:
            return tf.constant(whole.astype(np.float32) * scale)
        return tf.cast(tf.constant(whole.astype(np.int16)), tf.float32) * tf.constant(scale)
