"""Images of any size become the network's input: numpy only, the same pixels as ``tf.image.resize``.

Files and PIL images are read by :mod:`resnet_backbones.runtime.pictures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from resnet_backbones.runtime.pictures import is_path, is_pil, open_picture

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def split_images(images: Any, channels: int) -> list[Any]:
    """Splits a batch, a single image or a list of images; nothing is opened yet.

    Args:
        images: array ``(N, H, W, C)`` or ``(H, W, C)``, a path, a PIL image, or a list of arrays, paths and PIL images.
        channels: what the model takes.

    Returns:
        One array, path or PIL image an image, for :func:`as_image`.

    Raises:
        ValueError: an array of the wrong rank.
    """
    if is_path(images) or is_pil(images):
        return [images]
    if isinstance(images, Sequence) and not isinstance(images, bytes):
        return list(images)
    array = np.asarray(images)
    if array.ndim not in (3, 4):
        raise ValueError(
            f"images has shape {array.shape}; give (N, height, width, {channels}), (height, width, {channels}), "
            "a path, a PIL image, or a list of these."
        )
    return list(array) if array.ndim == 4 else [array]


def read_image(source: Any, channels: int, number: int = 0) -> tuple[np.ndarray, tuple[int, int]]:
    """Read one image as an array.

    Args:
        source: array ``(H, W, channels)``, a path or a PIL image. A greyscale array may leave the last axis out.
        channels: what the model takes: 1 is greyscale, 3 is RGB, 4 is RGB and alpha. Files and PIL images are
            converted; what is transparent keeps its colour.
        number: of the image in its batch, for messages.

    Returns:
        ``(H, W, channels)``, uint8 from files and PIL images; height and width in pixels of the image as it was given,
        which are larger than the array's where a picture was too large (see :func:`pictures.open_picture`).

    Raises:
        FileNotFoundError: no such file.
        ImportError: a file or PIL image, and no Pillow.
        ValueError: wrong rank or number of channels, an empty image, NaN or infinity, or a file that is not a picture.
    """
    if is_path(source) or is_pil(source):
        if channels not in _MODES:
            raise ValueError(f"image {number}: the model takes {channels} channels, which no picture has; give arrays.")
        picture, size = open_picture(source)
        image = np.asarray(picture.convert(_MODES[channels]))
        return (image[..., None] if channels == 1 else image), size
    image = np.asarray(source)
    if channels == 1 and image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] != channels or 0 in image.shape:
        raise ValueError(
            f"image {number} has shape {image.shape}; the model takes (height, width, {channels}), channels last."
        )
    if image.dtype.kind not in "uifb":
        raise ValueError(f"image {number} has dtype {image.dtype}; numbers are needed.")
    check_finite(image, f"image {number}")
    return image, image.shape[:2]


def as_image(source: Any, channels: int, number: int = 0) -> np.ndarray:
    """The array of :func:`read_image`."""
    return read_image(source, channels, number)[0]


def check_finite(values: np.ndarray, name: str) -> None:
    """Refuse NaN and infinity, and what becomes infinity in float32.

    Args:
        values: an array.
        name: of it, for the message.

    Raises:
        ValueError: not all values are finite.
    """
    if values.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32, copy=False)).all()
    if not finite:
        raise ValueError(f"{name} holds NaN or infinity (or numbers beyond float32): mend what makes it.")


def as_image_list(images: Any, channels: int) -> list[np.ndarray]:
    """Splits a batch, a single image or a list of images into arrays of shape ``(H, W, channels)``.

    Args:
        images: as :func:`split_images` takes them.
        channels: what the model takes; a greyscale image of a list may leave the last axis out.

    Raises:
        ValueError: wrong rank, wrong number of channels, or an empty image.
    """
    return [as_image(source, channels, number) for number, source in enumerate(split_images(images, channels))]


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
    image = np.asarray(image)
    if image.shape[:2] == (height, width):
        return np.asarray(image, np.float32)
    return np.concatenate(list(resized_rows(image, height, width, height)))


def resized_rows(image: np.ndarray, height: int, width: int, rows: int) -> Iterator[np.ndarray]:
    """What :func:`resize_bilinear` gives, in strips, so that many channels need little memory.

    Args:
        image: ``(H, W, C)``, any numeric dtype.
        height: new height in pixels.
        width: new width in pixels.
        rows: of a strip.

    Yields:
        ``(rows, width, C)`` float32, the last strip the rest.
    """
    low, high, weight = _taps(image.shape[0], height)
    left, right, share = _taps(image.shape[1], width)
    for start in range(0, height, rows):
        strip = slice(start, start + rows)
        top, bottom = (np.asarray(image[near[strip]], np.float32) for near in (low, high))
        blended = top + (bottom - top) * weight[strip, None, None]
        first, second = blended[:, left], blended[:, right]
        yield first + (second - first) * share[None, :, None]


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel: its two old neighbours and the weight of the second."""
    centre = (np.arange(new, dtype=np.float32) + 0.5) * np.float32(old / new) - 0.5
    floor = np.floor(centre)
    low = np.clip(floor, 0, old - 1).astype(np.int64)
    high = np.clip(floor + 1, 0, old - 1).astype(np.int64)
    return low, high, (centre - floor).astype(np.float32)
