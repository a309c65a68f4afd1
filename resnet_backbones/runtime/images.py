"""Images of any size become the network's input: numpy only, the same pixels as ``tf.image.resize``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def as_image_list(images: Any, channels: int) -> list[np.ndarray]:
    """Splits a batch, a single image or a list of images into arrays of shape ``(H, W, channels)``.

    Args:
        images: array ``(N, H, W, C)`` or ``(H, W, C)``, or a list of arrays ``(H, W, C)`` of any sizes.
        channels: what the model takes; a greyscale image of a list may leave the last axis out.

    Raises:
        ValueError: wrong rank, wrong number of channels, or an empty image.
    """
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        result = [np.asarray(image) for image in images]
    else:
        array = np.asarray(images)
        if array.ndim not in (3, 4):
            raise ValueError(
                f"images has shape {array.shape}; give (N, height, width, {channels}), (height, width, {channels}) "
                "or a list of images."
            )
        result = list(array) if array.ndim == 4 else [array]
    if channels == 1:
        result = [image[..., None] if image.ndim == 2 else image for image in result]
    for number, image in enumerate(result):
        if image.ndim != 3 or image.shape[-1] != channels or 0 in image.shape:
            raise ValueError(
                f"image {number} has shape {image.shape}; the model takes (height, width, {channels}), channels last."
            )
        if image.dtype.kind not in "uifb":
            raise ValueError(f"image {number} has dtype {image.dtype}; numbers are needed.")
    return result


def resize_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes with half-pixel centres and no antialiasing, as ``tf.image.resize(image, (height, width))``.

    Args:
        image: ``(H, W, C)``, any numeric dtype.
        height: new height in pixels.
        width: new width in pixels.

    Returns:
        ``(height, width, C)`` float32.

    Example:
        >>> resize_bilinear(np.zeros((480, 640, 3), "uint8"), 512, 512).shape
        (512, 512, 3)
    """
    image = np.asarray(image, np.float32)
    if image.shape[:2] == (height, width):
        return image
    low, high, weight = _taps(image.shape[0], height)
    top, bottom = image[low], image[high]
    rows = top + (bottom - top) * weight[:, None, None]
    low, high, weight = _taps(image.shape[1], width)
    left, right = rows[:, low], rows[:, high]
    return left + (right - left) * weight[None, :, None]


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel: its two old neighbours and the weight of the second."""
    centre = (np.arange(new, dtype=np.float32) + 0.5) * np.float32(old / new) - 0.5
    floor = np.floor(centre)
    low = np.clip(floor, 0, old - 1).astype(np.int64)
    high = np.clip(floor + 1, 0, old - 1).astype(np.int64)
    return low, high, (centre - floor).astype(np.float32)
