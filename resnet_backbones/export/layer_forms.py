"""Layers computed by the operator that a format has for them, where Keras computes them by several."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import IS_KERAS_3, keras
from resnet_backbones.keras_compat.operations import is_operation, operation_name
from resnet_backbones.quantization.hooks import own_call
from resnet_backbones.quantization.rules import resized_in_float

_EXTREMES = {"Argmax": tf.argmax, "Argmin": tf.argmin}


def plain_form(layer: Any) -> Callable[..., Any] | None:
    """The replacement for a layer or bare operation in ONNX, with the same result.

    Args:
        layer: any layer, or a bare operation of a functional model.

    Returns:
        For a dense layer on images the convolution that it is, since a matrix product wants the channels last; for
        enlargements and extremes see :func:`enlarged_form` and :func:`place_of_extreme`; ``None`` for all else.
    """
    if isinstance(layer, keras.layers.Dense) and type(layer).call is keras.layers.Dense.call:
        own = own_call(layer)
        return lambda layer, inputs, *args, **more: (
            _convolved(layer, inputs) if inputs.shape.rank == 4 else own(layer, inputs, *args, **more)
        )
    return enlarged_form(layer) or any_form(layer)


def any_form(layer: Any) -> Callable[..., Any] | None:
    """The replacement for a layer or bare operation in every format: the two below."""
    return place_of_extreme(layer) or resized_form(layer)


def place_of_extreme(layer: Any) -> Callable[..., Any] | None:
    """The replacement for a bare argmax or argmin of Keras 3, which orders -0 below 0: TensorFlow's operation.

    Args:
        layer: any layer, or a bare operation of a functional model.

    Returns:
        The operator along an axis; ``None`` for all else.
    """
    find = _EXTREMES.get(type(layer).__name__) if is_operation(layer) else None
    if find is None or getattr(layer, "axis", None) is None:
        return None

    def call(layer, values):
        found = find(values, axis=layer.axis, output_type=tf.int32)
        return tf.expand_dims(found, layer.axis) if layer.keepdims else found

    return call


def resized_form(layer: Any) -> Callable[..., Any] | None:
    """The replacement for a resizing layer whose interpolation no format supports: two matrix products.

    Args:
        layer: any layer, or a bare operation of a functional model.

    Returns:
        Rows, then columns, each weighted as the layer does; else as :func:`kept_aspect_form`; ``None`` for all else.
    """
    as_pixels = getattr(layer, "pad_to_aspect_ratio", False) or getattr(layer, "data_format", None) == "channels_first"
    if resized_in_float(layer) is None or as_pixels:
        return kept_aspect_form(layer)
    own = own_call(layer)

    def call(layer, inputs, *_, **__):
        height, width = inputs.shape[1:3]
        with tf.init_scope():  # what it makes of one row, or one column, of ones
            rows = own(layer, tf.eye(height)[:, :, None, None] * tf.ones((1, width, 1)))[:, :, 0, 0].numpy()
            columns = own(layer, tf.eye(width)[:, None, :, None] * tf.ones((height, 1, 1)))[:, 0, :, 0].numpy()
        turned = tf.matmul(tf.transpose(inputs, (0, 2, 3, 1)), tf.constant(rows))  # batch, width, channels, rows
        turned = tf.matmul(tf.transpose(turned, (0, 3, 2, 1)), tf.constant(columns))  # batch, rows, channels, columns
        return tf.transpose(turned, (0, 1, 3, 2))

    return call


def kept_aspect_form(layer: Any) -> Callable[..., Any] | None:
    """The replacement for a resizing that keeps the aspect ratio, whose sizes Keras computes as tensors.

    Args:
        layer: any layer, or a bare operation of a functional model.

    Returns:
        The same cropping or padding, then the same resizing; ``None`` for all else.
    """
    crops, pads = (getattr(layer, f"{what}_to_aspect_ratio", False) for what in ("crop", "pad"))
    if not isinstance(layer, keras.layers.Resizing) or not (crops or pads):
        return None
    own, size = own_call(layer), (layer.height, layer.width)

    def call(layer, inputs, *args, **more):
        given = inputs.shape[1:3]
        if inputs.shape.rank != 4 or None in given or getattr(layer, "data_format", "channels_last") != "channels_last":
            return own(layer, inputs, *args, **more)
        kept = [int(np.float32(given[1 - axis] * size[axis]) / np.float32(size[1 - axis])) for axis in (0, 1)]
        if crops:
            kept = [max(1, min(of, to)) for of, to in zip(given, kept, strict=True)]
            (top, left) = ((of - to) // 2 for of, to in zip(given, kept, strict=True))
            inputs = inputs[:, top : top + kept[0], left : left + kept[1]]
        else:
            sides = [[max(0, to - of) // 2] * 2 for of, to in zip(given, kept, strict=True)]
            inputs = tf.pad(inputs, [[0, 0], *sides, [0, 0]], constant_values=layer.fill_value)
        antialias = getattr(layer, "antialias", False)
        return tf.cast(tf.image.resize(inputs, size, layer.interpolation, antialias=antialias), layer.compute_dtype)

    return call


def enlarged_form(layer: Any) -> Callable[..., Any] | None:
    """The replacement for nearest upsampling of rows or columns, which Keras computes by reshapes and tiles.

    Args:
        layer: any layer, or a bare operation of a functional model.

    Returns:
        The resizing operator; ``None`` for all else.
    """
    if isinstance(layer, keras.layers.UpSampling2D):
        nearest = layer.interpolation == "nearest" and layer.data_format == "channels_last"
        return (lambda layer, inputs, *_, **__: _enlarged(inputs, *layer.size)) if nearest else None
    if not is_operation(layer):
        return None
    own = own_call(layer)
    if type(layer).__name__ == "Repeat":
        return lambda layer, inputs: _repeated(functools.partial(own, layer), inputs, layer.repeats, layer.axis)
    if str(getattr(layer, "symbol", None)).split(".")[-1] == "repeat":
        return lambda layer, inputs, repeats, axis=None, **more: _repeated(
            lambda values: own(layer, values, repeats, axis=axis, **more), inputs, repeats, axis
        )
    return None


def sum_form(layer: Any) -> Callable[..., Any] | None:
    """The replacement for a sum in LiteRT with 16-bit activations.

    Keras 3 adds an operand of shape (1, 1, 1, channels), an image of one pixel, as a bias, which
    LiteRT's converter refuses.

    Args:
        layer: any layer, or a bare operation of a functional model.

    Returns:
        The sum of tensors as such; ``None`` for all else.
    """
    if operation_name(layer) != "add" and not (type(layer) is keras.layers.Add and IS_KERAS_3):
        return None
    own = own_call(layer)

    def call(layer, *args, **more):
        parts = tf.nest.flatten(args)
        alike = not more and all(tf.is_symbolic_tensor(part) for part in parts)
        alike = alike and len({(part.shape.rank, part.dtype) for part in parts}) == 1
        return functools.reduce(tf.add, parts) if alike else own(layer, *args, **more)

    return call


def flat_form(layer: Any) -> Callable[..., Any] | None:
    """The replacement for a dense layer on volumes in LiteRT, which would add the bias in a separate operator.

    Args:
        layer: any layer, or a bare operation of a functional model.

    Returns:
        The layer on a list of all points; ``None`` for all else.
    """
    if not isinstance(layer, keras.layers.Dense) or type(layer).call is not keras.layers.Dense.call:
        return None
    own = own_call(layer)

    def call(layer, inputs, *args, **more):
        if inputs.shape.rank < 5:
            return own(layer, inputs, *args, **more)
        outputs = own(layer, tf.reshape(inputs, (-1, inputs.shape[-1])), *args, **more)
        return tf.reshape(outputs, (-1, *inputs.shape[1:-1], outputs.shape[-1]))

    return call


def _convolved(layer: Any, inputs: Any) -> Any:
    kernel = tf.convert_to_tensor(layer.kernel)
    kernel = tf.reshape(kernel, (1, 1, *kernel.shape))
    outputs = tf.nn.conv2d(inputs, kernel, 1, "VALID")
    if layer.use_bias:
        outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(layer.bias))
    return outputs if layer.activation is None else layer.activation(outputs)


def _repeated(call: Callable[[Any], Any], inputs: Any, repeats: Any, axis: Any) -> Any:
    """A repetition of rows or of columns of images; any other as it was."""
    sizes = inputs.shape[1:3] if inputs.shape.rank == 4 else [None]
    if not isinstance(repeats, int) or axis not in (1, 2) or None in sizes:
        return call(inputs)
    return _enlarged(inputs, *((repeats, 1) if axis == 1 else (1, repeats)))


def _enlarged(inputs: Any, rows: int, columns: int) -> Any:
    size = [int(inputs.shape[1]) * rows, int(inputs.shape[2]) * columns]
    return tf.raw_ops.ResizeNearestNeighbor(images=inputs, size=size)
