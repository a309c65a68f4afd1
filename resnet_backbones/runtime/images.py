"""Images of any size become the network's input: numpy only, the same pixels as ``tf.image.resize``.

Files and PIL images need Pillow, which is imported when the first one comes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

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
    if _is_path(images) or _is_pil(images):
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


def as_image(source: Any, channels: int, number: int = 0) -> np.ndarray:
    """One image as an array.

    Args:
        source: array ``(H, W, channels)``, a path or a PIL image. A camera's orientation (EXIF) is honoured. A
            greyscale array may leave the last axis out.
        channels: what the model takes: 1 is greyscale, 3 is RGB, 4 is RGB and alpha; files are converted.
        number: of the image in its batch, for messages.

    Returns:
        ``(H, W, channels)``, files as uint8.

    Raises:
        FileNotFoundError: no such file.
        ImportError: a file or PIL image, and no Pillow.
        ValueError: wrong rank or number of channels, an empty image, or a file that is no picture.
    """
    if _is_path(source) or _is_pil(source):
        if channels not in _MODES:
            raise ValueError(f"image {number}: the model takes {channels} channels, which no picture has; give arrays.")
        picture = np.asarray(open_picture(source).convert(_MODES[channels]))
        return picture[..., None] if channels == 1 else picture
    image = np.asarray(source)
    if channels == 1 and image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] != channels or 0 in image.shape:
        raise ValueError(
            f"image {number} has shape {image.shape}; the model takes (height, width, {channels}), channels last."
        )
    if image.dtype.kind not in "uifb":
        raise ValueError(f"image {number} has dtype {image.dtype}; numbers are needed.")
    return image


def as_image_list(images: Any, channels: int) -> list[np.ndarray]:
    """Splits a batch, a single image or a list of images into arrays of shape ``(H, W, channels)``.

    Args:
        images: as :func:`split_images` takes them.
        channels: what the model takes; a greyscale image of a list may leave the last axis out.

    Raises:
        ValueError: wrong rank, wrong number of channels, or an empty image.
    """
    return [as_image(source, channels, number) for number, source in enumerate(split_images(images, channels))]


def open_picture(source: Any) -> Any:
    """A path or PIL image as a PIL image, upright.

    Args:
        source: path or PIL image.

    Raises:
        FileNotFoundError: no such file.
        ImportError: Pillow is not installed.
        ValueError: the file is no picture, is cut short, or far too large.
    """
    pillow, ops = _pillow()
    if not _is_path(source):
        return ops.exif_transpose(source)
    try:
        with pillow.open(source) as picture:
            return ops.exif_transpose(picture.convert(picture.mode))  # convert reads all of it, and keeps the EXIF
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no picture {source}.") from None
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise ValueError(f"{source} cannot be read as a picture: {error}.") from error


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
    return np.concatenate(list(resized_rows(image, height, width, height)))


def resized_rows(image: np.ndarray, height: int, width: int, rows: int) -> Iterator[np.ndarray]:
    """What :func:`resize_bilinear` gives, in strips, so that many channels need little memory.

    Args:
        image: ``(H, W, C)`` float32.
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
        top, bottom = image[low[strip]], image[high[strip]]
        blended = top + (bottom - top) * weight[strip, None, None]
        near, far = blended[:, left], blended[:, right]
        yield near + (far - near) * share[None, :, None]


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel: its two old neighbours and the weight of the second."""
    centre = (np.arange(new, dtype=np.float32) + 0.5) * np.float32(old / new) - 0.5
    floor = np.floor(centre)
    low = np.clip(floor, 0, old - 1).astype(np.int64)
    high = np.clip(floor + 1, 0, old - 1).astype(np.int64)
    return low, high, (centre - floor).astype(np.float32)


def _is_path(source: Any) -> bool:
    return isinstance(source, str | os.PathLike)


def _is_pil(source: Any) -> bool:
    return "PIL.Image" in sys.modules and isinstance(source, sys.modules["PIL.Image"].Image)


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError('Pictures from files need Pillow: pip install "resnet-backbones[images]".') from error
    return Image, ImageOps
