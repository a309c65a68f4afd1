"""Resizing and rescaling within an exported file, for images as a camera or a decoder gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import input_signature
from resnet_backbones.quantization import context
from resnet_backbones.quantization.export_forms import scale_and_offset
from resnet_backbones.quantization.hooks import hook_of
from resnet_backbones.quantization.trace import LeafCall, Trace

_PIXELS = (0.0, 255.0)


def image_size(model: Any, input_shape: tuple[int, ...] | None = None) -> tuple[int | None, int | None]:
    """(height, width) of the images a model takes, or is given; ``None`` where it takes any."""
    height, width, _ = input_shape or tf.nest.flatten(input_signature(model))[0].shape[1:]
    return height, width


def fixed_signature(model: Any, input_shape: tuple[int, ...] | None) -> Any:
    """What a built model takes, its open sizes fixed; ``None`` if it cannot be told.

    Args:
        model: a built Keras model of one input, if ``input_shape`` is given.
        input_shape: (height, width, channels), or ``None`` for the model's own.

    Raises:
        ValueError: the model has several inputs, or another shape.
    """
    signature = input_signature(model)
    if input_shape is None or signature is None:
        return signature
    specs = tf.nest.flatten(signature)
    own = tuple(specs[0].shape[1:])
    if (
        len(specs) != 1
        or len(own) != len(input_shape)
        or any(size not in (None, wanted) for size, wanted in zip(own, input_shape, strict=True))
    ):
        takes = ", ".join(str(tuple(spec.shape[1:])) for spec in specs)
        raise ValueError(
            f"{model.name!r} takes {takes} without the batch, so it cannot be exported with "
            f"input_shape={tuple(input_shape)}: that fixes sizes that are None. Leave it out, or build "
            "the model with it."
        )
    return tf.nest.map_structure(lambda spec: tf.TensorSpec((spec.shape[0], *input_shape), spec.dtype), signature)


def prepared(images: Any, size: tuple[int | None, int | None], pixels: tuple[float, float] | None) -> Any:
    """Images as the network takes them: resized where their size is another one.

    Args:
        images: (batch, height, width, channels).
        size: (height, width) the network takes.
        pixels: range of the images' values in an int8 file; ``None`` in float.

    Returns:
        The images, resized bilinearly with pixel centres at halves, as Keras and PIL do.
    """

    def ranged(values):
        return values if pixels is None else tf.quantization.fake_quant_with_min_max_vars(values, *pixels)

    if tuple(images.shape[1:3]) == size:
        return ranged(images) if context.mode() == context.EXPORT else images
    return ranged(tf.image.resize(ranged(images), size))


def pixel_range(trace: Trace, leading: list[LeafCall]) -> tuple[float, float] | None:
    """Range of the images before rescaling, from the range behind it.

    Where that is close to 0 to 255 it is that: a step is then one, and pixels are their own integers.

    Args:
        trace: the model's layer calls.
        leading: those that rescale.

    Returns:
        Least and largest value; ``None`` where the model has no range there.
    """
    if leading:
        hook = hook_of(leading[-1].layer)
        quantizer = None if hook is None else hook.quantizers.get((leading[-1].index, "output"))
    else:
        readers = [call for call in trace.consumers(trace.inputs[0]) if isinstance(call, LeafCall)]
        found = [(hook_of(call.layer), call.index) for call in readers]
        ranges = [hook.quantizers.get((index, "input:0")) for hook, index in found if hook is not None]
        quantizer = next((entry for entry in ranges if entry is not None), None)
    if quantizer is None:
        return None
    bounds = np.asarray(quantizer.range(), np.float64)[:, None]
    for call in reversed(leading):
        scale, offset = scale_and_offset(call.layer)
        bounds = (bounds - offset) / scale
    low, high = min(float(bounds.min()), 0.0), float(bounds.max())
    near = abs(low - _PIXELS[0]) < 0.1 * _PIXELS[1] and abs(high - _PIXELS[1]) < 0.1 * _PIXELS[1]
    return _PIXELS if near else (low, high)
