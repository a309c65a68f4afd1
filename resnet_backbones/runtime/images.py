"""Pictures, files and arrays of any size become the network's input: the same pixels as ``tf.image.resize``.

Pictures from files and PIL images come upright, with 8 bits per channel and of bounded size. Pillow is imported when
the first one comes; all else is numpy.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

MOST_PIXELS = 1 << 25  # larger pictures are reduced while they are read

_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = (None, None, 0, 3, 1, 5, 4, 6, 2)  # its values, as PIL.Image.Transpose
_SIDES_SWAPPED = (5, 6, 7, 8)
_BITS, _SAMPLE_FORMAT, _UNSIGNED = 258, 339, 1  # TIFF tags, and a value of the second
_DRAWN_ELSEWHERE = ("EPS", "WMF")  # Pillow starts Ghostscript, or asks Windows
_REDUCIBLE = ("L", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "F")
_WHITE = {"I": (255, 65535, 2**31 - 1, 2**32 - 1), "F": (1, 255, 65535, 2**31 - 1, 2**32 - 1)}
_PLAIN = ("L", "LA", "RGB", "RGBA")
_ONE_STEP = {"1": "L", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}  # all others become RGB


def is_path(source: Any) -> bool:
    """Whether ``source`` names a file."""
    return isinstance(source, str | os.PathLike)


def is_pil(source: Any) -> bool:
    """Whether ``source`` is a PIL image."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(source, pillow.Image)


def open_picture(source: Any) -> tuple[Any, tuple[int, int]]:
    """Read a path or PIL image.

    A camera's orientation (EXIF) is honoured, and ignored where the EXIF block is damaged. Grey of more than 8 bits is
    scaled to 0..255: 16 bits by 65535. Integers of 32 bits and floats do not say what is white: it is the least of 255,
    65535, 2^31 - 1 and 2^32 - 1 (for floats of 1, too) that no value exceeds. Pictures above ``MOST_PIXELS`` are
    reduced to a half or a quarter: JPEG files while they are decoded, others (up to Pillow's own limit) afterwards.

    Args:
        source: path or PIL image.

    Returns:
        A PIL image of mode L, LA, RGB or RGBA; its height and width in pixels before it was reduced.

    Raises:
        FileNotFoundError: no such file.
        ImportError: Pillow is not installed.
        ValueError: not a regular file, not a picture, cut short, far too large, or grey values below zero or not
            finite.
    """
    pillow = _pillow()
    name = source if is_path(source) else f"the PIL image of mode {source.mode}"
    try:
        if not is_path(source):
            return _read(source, source.size)
        kind = os.stat(source).st_mode
        if not stat.S_ISREG(kind):
            raise ValueError("it is a folder" if stat.S_ISDIR(kind) else "it is a pipe, a socket or a device, no file")
        with pillow.open(source) as picture:
            if picture.format in _DRAWN_ELSEWHERE:
                raise ValueError(f"{picture.format} files are drawn by other programs; save it as PNG")
            size = picture.size
            if (factor := _factor(*size)) > 1:
                picture.draft(None, (size[0] // factor, size[1] // factor))  # only JPEG files heed it
            return _read(picture, size)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no picture {source}.") from None
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise ValueError(f"{name} cannot be read as a picture: {error or type(error).__name__}.") from error


def _read(picture: Any, size: tuple[int, int]) -> tuple[Any, tuple[int, int]]:
    """Decodes; ``size`` is width and height before anything was reduced."""
    picture.load()
    orientation = _orientation(picture)
    if picture.mode in _REDUCIBLE:
        picture = _reduced(picture)
    picture = _reduced(_with_8_bits(picture))
    if orientation in range(2, 9):
        picture = picture.transpose(_TURNS[orientation])
    return picture, size if orientation in _SIDES_SWAPPED else (size[1], size[0])


def _orientation(picture: Any) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # as in reading; a picture with a damaged EXIF block is still a picture
        return 1
    return value if isinstance(value, int) else 1


def _factor(width: int, height: int) -> int:
    """1, 2, 4, ...: by how much each side is divided to leave at most ``MOST_PIXELS``."""
    factor = 1
    while -(-width // factor) * -(-height // factor) > MOST_PIXELS:
        factor *= 2
    return factor


def _reduced(picture: Any) -> Any:
    factor = _factor(*picture.size)
    return picture.reduce(factor) if factor > 1 else picture


def _with_8_bits(picture: Any) -> Any:
    """The picture as one of ``_PLAIN``."""
    if picture.mode.startswith(("I", "F")):
        return _pillow().fromarray(_scaled_grey(picture))
    if picture.mode in _PLAIN:
        return picture
    if picture.mode == "P" and "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture.convert(_ONE_STEP.get(picture.mode, "RGB"))


def _scaled_grey(picture: Any) -> np.ndarray:
    values = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    if picture.mode.startswith("I;16"):
        white = 2 ** int(tags.get(_BITS, (16,))[0]) - 1  # TIFF knows 12 bits
        table = (np.arange(65536).clip(0, white) * 255 + white // 2) // white
        return table.astype(np.uint8)[values]
    if tags.get(_SAMPLE_FORMAT, (0,))[0] == _UNSIGNED and values.dtype == np.int32:
        values = values.view(np.uint32)  # Pillow reads it as signed
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("it holds NaN or infinity")
    limits = (65535,) if picture.mode == "I" and picture.format in ("PNG", "PPM") else _WHITE[picture.mode]
    white = next((limit for limit in limits if high <= limit), None)
    if low < 0 or white is None:
        raise ValueError(
            f"its grey values, from {low} to {high}, do not say what is black or white; give an array in the model's "
            "own units"
        )
    return (values * np.float32(255 / white) + np.float32(0.5)).astype(np.uint8)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('Pictures from files need Pillow: pip install "resnet-backbones[images]".') from error
    return Image


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
        which are larger than the array's where a picture was too large (see :func:`open_picture`).

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
