"""Images that a file is compared on where the caller gives none."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.export.graph import leading_preprocessing
from resnet_backbones.export.preprocess import pixel_range
from resnet_backbones.keras_compat import input_signature
from resnet_backbones.quantization.calibration import calibration_sample
from resnet_backbones.quantization.export_forms import scale_and_offset
from resnet_backbones.quantization.trace import Trace

#: What a report calls them.
CALIBRATION, RANDOM = "calibration data", "random data"
_COUNT = 4


def own_images(model: Any, size: tuple[int | None, ...] | None) -> tuple[str, np.ndarray] | None:
    """A few images of the model's calibration, else random ones in the range of its input.

    Args:
        model: a built model.
        size: (height, width) or (height, width, channels) of the images, where the file takes others than the model.

    Returns:
        Which of both they are, and the images, as the Keras model takes them; ``None`` where it takes several inputs,
        such of open size, or whole numbers that are no images.
    """
    specs = tf.nest.flatten(input_signature(model))
    if len(specs) != 1:
        return None
    shape = list(specs[0].shape[1:])
    if size is not None:
        shape[: len(size)] = size
    sample = calibration_sample(model)
    if sample is not None and list(sample.shape[1:]) == shape:
        return CALIBRATION, sample.astype(np.float32)
    indices = not specs[0].dtype.is_floating and len(shape) != 3  # of what, nobody knows: tokens of a vocabulary
    if None in shape or indices:
        return None
    return RANDOM, _random(shape, *_range(model), whole=not specs[0].dtype.is_floating)


def _random(shape: list[int], low: float, high: float, *, whole: bool) -> np.ndarray:
    """Noise on fields of color, which is nearer to pictures than noise alone."""
    random = np.random.default_rng(0)
    fields = random.uniform(size=(_COUNT, *[-(-size // 8) for size in shape[:-1]], shape[-1]))
    for axis, length in enumerate(shape[:-1], start=1):
        fields = np.repeat(fields, 8, axis).take(range(length), axis)
    values = low + (high - low) * (0.8 * fields + 0.2 * random.uniform(size=fields.shape))
    return (np.round(values) if whole else values).astype(np.float32)


def _range(model: Any) -> tuple[float, float]:
    """Least and largest value of the model's input: its range, else what its preprocessing brings to -1 and 1."""
    trace = Trace(model)
    leading = leading_preprocessing(trace)
    known = pixel_range(trace, leading)
    if known is not None:
        return known
    bounds = np.array([[-1.0], [1.0]])
    for call in reversed(leading):
        scale, offset = scale_and_offset(call.layer)
        bounds = (bounds - offset) / scale
    if not trace.inputs[0].dtype.is_floating and not leading:
        return 0.0, 255.0
    return (max(float(bounds.min()), 0.0) if leading else -1.0), float(bounds.max())
