"""Layers that LiteRT runs as several operators: the same computation, with a range for each tensor between them.

A tensor without a range makes the operators on both of its sides float. Where such a tensor lies inside a layer, the
layer's call is replaced by one of these functions, in training too, so that training sees the rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from resnet_backbones.quantization import context

# LiteRT fixes the output of a sigmoid in int8: scale 1/256, zero point -128.
SIGMOID_RANGE = (0.0, 255.0 / 256.0)


@dataclass(frozen=True)
class Steps:
    """What a layer's steps are made of.

    Attributes:
        call: the layer's own call.
        value: function giving an attribute of the layer by its name, kernels quantized.
        between: function quantizing a tensor between two steps: ``between(0, tensor)``, ``between(1, tensor)``...
    """

    call: Callable[..., Any]
    value: Callable[[str], Any]
    between: Callable[[int, Any], Any]


@dataclass(frozen=True)
class Composite:
    """How a layer is computed in steps.

    Args:
        call: function of the :class:`Steps` and the layer's input; returns what the layer returns.
        count: function of the number of inputs: how many tensors lie between the steps, 0 where the layer's
            own call will do.
    """

    call: Callable[[Steps, Any], Any]
    count: Callable[[int], int]


def _separable(steps: Steps, inputs: Any) -> Any:
    """A depthwise convolution, and a 1x1 convolution of its result."""
    value = steps.value
    kernel, padding = tf.convert_to_tensor(value("depthwise_kernel")), value("padding").upper()
    dilations = list(value("dilation_rate"))
    if context.mode() in context.EXPORTS and max(dilations) > 1:
        outputs = dilated_depthwise(inputs, kernel, padding, dilations)
    else:
        outputs = tf.nn.depthwise_conv2d(inputs, kernel, [1, *value("strides"), 1], padding, dilations=dilations)
    outputs = tf.nn.conv2d(steps.between(0, outputs), tf.convert_to_tensor(value("pointwise_kernel")), 1, "VALID")
    if value("use_bias"):
        outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(value("bias")))
    activation = value("activation")
    return outputs if activation is None else activation(outputs)


def dilated_depthwise(inputs: Any, kernel: Any, padding: str, dilations: Sequence[int]) -> Any:
    """A dilated depthwise convolution as one operation, where TensorFlow moves pixels into the batch, for export only:
    TensorFlow itself cannot run it on a CPU.

    Args:
        inputs: images, channels last.
        kernel: (height, width, channels, multiplier).
        padding: ``"SAME"`` or ``"VALID"``.
        dilations: of rows and of columns.
    """
    return tf.raw_ops.DepthwiseConv2dNative(
        input=inputs, filter=kernel, strides=[1, 1, 1, 1], padding=padding, dilations=[1, *dilations, 1]
    )


def _in_pairs(steps: Steps, inputs: Sequence[Any]) -> Any:
    """The first two merged, then each of the others with what came before."""
    first, *others, last = inputs
    for number, other in enumerate(others):
        first = steps.between(number, steps.call([first, other]))
    return steps.call([first, last])


def _average(steps: Steps, inputs: Sequence[Any]) -> Any:
    """A sum, pair by pair, and its division."""
    total, *others = inputs
    for number, other in enumerate(others):
        total = steps.between(number, total + other)
    return total * tf.cast(1.0 / len(inputs), total.dtype)


def silu_in_steps(inputs: Any) -> Any:
    """``x * sigmoid(x)`` as LiteRT computes it in int8: the sigmoid is a tensor of its own, in steps of 1/256.

    Left to the file alone, this rounding adds up over a network: behind twelve layers 12 % of the values were more than
    two steps off. So training sees it.
    """
    values = tf.cast(inputs, tf.float32)
    gate = tf.quantization.fake_quant_with_min_max_vars(tf.sigmoid(values), *SIGMOID_RANGE, num_bits=8)
    return tf.cast(values * gate, inputs.dtype)


SEPARABLE = Composite(_separable, lambda inputs: 1)
IN_PAIRS = Composite(_in_pairs, lambda inputs: inputs - 2)
AVERAGE = Composite(_average, lambda inputs: inputs - 1)
