"""The same computations, in the forms that LiteRT's converter makes integer operators of.

Used while an int8 file is made, and only then. What they change is less than the file resolves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import float32_variable, keras
from resnet_backbones.quantization import context
from resnet_backbones.quantization.kernel_quantizer import read
from resnet_backbones.quantization.rules import activation_name
from resnet_backbones.quantization.traced_values import chosen_from, holds_range, moves_before, source_of

_layers = keras.layers


def least_of_largest(bits: int) -> float:
    """What the scales of a batch norm are raised to in a LiteRT file, as a part of the largest.

    Large enough for the converter to quantize the channel and for the bias to fit 32 bits, or 64 where activations have
    16. What it changes is taken back in the finished file (``export/switched_off.py``).

    Args:
        bits: of the activations that are multiplied.
    """
    return 1e-3 if bits <= 8 else 1e-5


def mended_attributes(layer: Any, bits: int) -> dict[str, Any]:
    """Attributes of a weighted layer or a batch norm whose values the converter cannot quantize as they are.

    Args:
        layer: the layer.
        bits: of what it reads.

    Returns:
        Name -> the value to use instead.
    """
    if isinstance(layer, _layers.Conv2DTranspose) and not layer.use_bias:
        return {"use_bias": True, "bias": tf.constant(_never_nothing(np.zeros(layer.filters, np.float32)))}
    bias = _never_nothing if isinstance(layer, _layers.Conv2DTranspose) else _never_uniform
    return {
        name: tf.cast(change(read(float32_variable(layer.__dict__[name]))), layer.compute_dtype)
        for name, change in (("bias", bias), ("gamma", partial(never_zero, bits=bits)))
        if layer.__dict__.get(name) is not None
    }


def convolution_instead(
    layer: Any, args: Any, stands_alone: bool, bits: int, given: Mapping[str, Any]
) -> Callable[..., Any] | None:
    """A layer that multiplies and adds a number a channel, as a depthwise 1x1 convolution.

    LiteRT computes that in int8 with a scale a channel, so without any rounding of its kernel, and an activation
    fused. A product and a sum would each need a range, the one between them for all channels.

    Args:
        layer: any layer.
        args: what it is called with.
        stands_alone: whether a batch norm folds into no convolution before it.
        bits: of what it reads.
        given: what to use instead of a batch norm's own ``gamma`` and ``beta``.

    Returns:
        A call in place of the layer's own; ``None`` if the layer does something else, or on other axes.
    """
    shape = args[0].shape if args and tf.is_tensor(args[0]) else None
    if shape is None or shape.rank not in (2, 3, 4) or None in shape[1:]:
        return None
    if stands_alone:
        scale, offset = _batch_norm_scale_and_offset(layer, bits, given)
    elif isinstance(layer, (_layers.Rescaling, _layers.Normalization)):
        scale, offset = scale_and_offset(layer)
    else:
        return None

    def call(inputs, **_):
        kernel, bias = (np.broadcast_to(values, inputs.shape[-1:]).astype(np.float32) for values in (scale, offset))
        images = inputs if shape.rank == 4 else tf.reshape(inputs, [-1, *[1] * (4 - shape.rank), *shape[1:]])
        outputs = tf.nn.depthwise_conv2d(
            images, tf.constant(kernel.reshape(1, 1, -1, 1), inputs.dtype), [1] * 4, "VALID"
        )
        outputs = tf.nn.bias_add(outputs, tf.constant(_never_uniform(bias), inputs.dtype))
        return outputs if shape.rank == 4 else tf.reshape(outputs, [-1, *shape[1:]])

    return call


def activation_for_export(layer: Any, function: Callable[..., Any], bits: int, largest: float) -> Callable[..., Any]:
    """The activation a layer applies, in a form that LiteRT has in integers.

    Args:
        layer: the layer that applies it.
        function: the activation.
        bits: of its result.
        largest: where the range of its result ends.
    """
    name = activation_name(layer)
    if name == "hard_sigmoid":
        return lambda inputs, *_, **__: _hard_sigmoid_in_steps(function, inputs, bits)
    if name in ("relu", "relu6", "clipped_relu"):
        return lambda inputs, *args, **more: _rectified(
            inputs, lambda: function(inputs, *args, **more), name, bits, largest
        )
    return function


def _rectified(inputs: Any, own: Callable[[], Any], name: str, bits: int, largest: float) -> Any:
    """A rectifier; one with a limit without it where the range of its result ends there.

    The converter makes one of equal rectifiers of a tensor, though their results have different ranges, and it may
    fuse that into what computes the tensor, past its range. So the second is a leaky one that leaks nothing. So is one
    after a transposition: the converter moves it before the transposition to fuse it.
    """
    ends_there = name == "clipped_relu" or (name == "relu6" and bits > 8 and largest <= 6.0 and holds_range(inputs))
    kind = "Relu6" if name == "relu6" and not ends_there else "Relu"
    readers = [reader.type for reader in inputs.consumers()] if holds_range(inputs) else []
    transposed = kind == "Relu" and holds_range(inputs) and "Transpose" in moves_before(inputs)
    if transposed or (kind in readers and (kind == "Relu" or largest <= 6.0)):
        rectifiers = sum(reader in ("Relu", "Relu6", "LeakyRelu") for reader in readers)
        return tf.nn.leaky_relu(inputs, 1e-20 * rectifiers)  # another slope each: less than a step of any value
    return tf.nn.relu(inputs) if ends_there else own()  # LiteRT has no operator for the limit: in 16 bits none for 6


def joined_in_range(value: Any, quantizer: Callable[[Any], Any], taken_apart: bool) -> Any:
    """One of the values that a concatenation joins, rounded to the range of its result.

    The converter gives all inputs and the output of a concatenation one scale. Where values with a range were only
    moved on their way to it, it takes theirs, which clips the others or leaves them few steps.

    Args:
        value: a tensor; anything else, and a tensor rounded just before, is returned as it is: the converter rounds
            that to the range of the result in the operator that computes it.
        quantizer: of the result.
        taken_apart: whether the result is split again. Each part is then rounded twice, as the Keras model does: the
            steps of the result can be large beside the values of one part.
    """
    if not (tf.is_symbolic_tensor(value) and value.dtype.is_floating):
        return value
    source = value.op
    while source.type in ("Identity", "Cast"):
        source = source.inputs[0].op
    rounded_just_before = source.type.startswith("FakeQuant")
    if rounded_just_before and not taken_apart:
        return value
    return quantizer(_pooled(_rounded_again(value)))


def _rounded_again(value: Any) -> Any:
    """A value with a range that was moved since, rounded to that range, which changes nothing.

    Without it the converter leaves an operator that splits in float where one part is pooled, and so another range's.
    """
    source = source_of(value)
    if source is value.op or not source.type.startswith("FakeQuantWithMinMaxVars"):
        return value
    low, high = source.inputs[1:3]
    return tf.quantization.fake_quant_with_min_max_vars(
        value, low, high, num_bits=source.get_attr("num_bits"), narrow_range=source.get_attr("narrow_range")
    )


def kept_apart(values: Any, bits: int) -> Any:
    """A tensor that has a range, made ready for a second one of other bits.

    Of two ranges on one tensor the converter drops one, and the operators round it then have inputs and outputs of
    different types. A pooling of one pixel between them keeps both, and the change of type in between.

    Args:
        values: the tensor.
        bits: of the range it is about to have.

    Returns:
        The tensor itself, or its copy if it has a range of other bits.
    """
    if not tf.is_symbolic_tensor(values):
        return values
    source = chosen_from(values, pooled=False)
    if not source.type.startswith("FakeQuant") or source.get_attr("num_bits") == bits:
        return values
    return _pooled(values)


def _pooled(values: Any) -> Any:
    """The same values, as an operator of its own: a pooling of one pixel, which a finished file does without."""
    if values.shape.rank == 4:
        return tf.nn.max_pool2d(values, 1, 1, "VALID")
    pixels = tf.reshape(values, [-1, 1, 1, values.shape[-1]])
    return tf.reshape(tf.nn.max_pool2d(pixels, 1, 1, "VALID"), [-1, *values.shape[1:]])


def scale_and_offset(layer: Any) -> tuple[Any, Any]:
    """A rescaling or normalisation layer as ``x * scale + offset``.

    Args:
        layer: a ``Rescaling``, or a ``Normalization`` over the last axis or of one mean.

    Returns:
        Two arrays, of one number or of one number a channel.
    """
    if isinstance(layer, keras.layers.Rescaling):
        return tuple(np.squeeze(np.asarray(values, np.float64)) for values in (layer.scale, layer.offset))
    mean, variance = (np.asarray(values, np.float64).reshape(-1) for values in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())  # as the layer itself does
    return (deviation, mean) if layer.invert else (1.0 / deviation, -mean / deviation)


def _batch_norm_scale_and_offset(layer: Any, bits: int, given: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    gamma, beta = (
        given[name] if name in given else None if (own := getattr(layer, name)) is None else read(float32_variable(own))
        for name in ("gamma", "beta")
    )
    scale = 1.0 / np.sqrt(read(float32_variable(layer.moving_variance)) + layer.epsilon)
    if gamma is not None:
        scale = scale * never_zero(gamma, bits)
    offset = -scale * read(float32_variable(layer.moving_mean))
    return scale, offset if beta is None else offset + beta


def _hard_sigmoid_in_steps(function: Callable[[Any], Any], inputs: Any, bits: int) -> Any:
    """A hard sigmoid as LiteRT computes it in integers, for an exported graph.

    ``clip(slope x + 0.5, 0, 1)`` becomes ``relu6(x + 3) / 6`` where the slope is 1/6. Where it is 1/5, the range of
    ``relu(x + 2.5) / 5`` ends where it clips. The division only renames integers, so there is one rounding.

    Args:
        function: the hard sigmoid; Keras 3's has slope 1/6, tf_keras' own 1/5.
        inputs: its argument.
        bits: of the ranges.
    """
    with tf.init_scope(), context.use_mode(context.FLOAT):
        slope = float(function(tf.constant(1.0)) - function(tf.constant(0.0)))

    def in_range(values, bound, low):
        symmetric = bits > 8
        return tf.quantization.fake_quant_with_min_max_vars(
            values, -bound if symmetric else low, bound, num_bits=bits, narrow_range=symmetric
        )

    bound = round(1 / slope, 4)
    rectified = tf.nn.relu6(inputs + 3.0) if bound == 6.0 else tf.nn.relu(inputs + bound / 2)
    return in_range(rectified, bound, 0.0) * (1.0 / bound)


def _never_uniform(bias: np.ndarray) -> np.ndarray:
    """The bias, with one value moved by the last bit of a float32 if all are the same.

    LiteRT's converter quantizes a bias of equal values with the first channel's scale for every channel, which is
    wrong for kernels with a scale a channel: -4.6 in all channels, where focal loss starts, came out up to 4 % off.
    """
    if bias.size > 1 and np.all(bias == bias.flat[0]) and bias.flat[0] != 0:
        bias = bias.copy()
        bias.flat[0] = np.nextafter(bias.flat[0], np.float32(0), dtype=np.float32)
    return bias


def _never_nothing(bias: np.ndarray) -> np.ndarray:
    """The bias of a transposed convolution, with one value that rounds to zero in place of a zero if all are zero.

    The converter drops a bias of zeros, and without one it does not fuse the ReLU behind a transposed convolution:
    both then stay in float.
    """
    if not np.any(bias):
        bias = bias.copy()
        bias.flat[0] = 1e-20
    return _never_uniform(bias)


def never_zero(gamma: np.ndarray, bits: int) -> np.ndarray:
    """The scale of a batch norm, with zeros raised to :func:`least_of_largest` of the largest.

    Folded into a kernel, a zero makes a channel without a scale, and the converter then leaves the whole convolution
    in float. Such channels are common: blocks start with zeros, and training prunes some.
    """
    least = least_of_largest(bits) * (np.abs(gamma).max() or 1.0)
    return np.where(np.abs(gamma) < least, np.copysign(least, gamma), gamma).astype(np.float32)
