"""Images that commands are given: an array in a file, or a folder of pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones.runtime.feeding import place
from resnet_backbones.runtime.images import as_image

PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def read_images(
    path: Path, shape: tuple[int, int, int], pixel_range: tuple[float, float], most: int, resize: str = "stretch"
) -> np.ndarray:
    """Images as a model takes them.

    Args:
        path: an ``.npy`` of shape (N, height, width, channels), taken as it is; or a folder, searched with those in it
            for pictures, which are resized.
        shape: height, width and channels that the model takes.
        pixel_range: what 0 and 255 of a picture become.
        resize: ``"stretch"`` or ``"letterbox"``: how pictures come to that size.
        most: images; of more, as many are taken, evenly spread, so that each class's folder has its part.

    Returns:
        (n, height, width, channels) float32.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: no whole ``.npy``, images of another shape, a folder without pictures.
        ImportError: pictures, and no Pillow.
    """
    if path.is_dir():
        return _pictures(path, shape, pixel_range, most, resize)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}: give an .npy of images or a folder of pictures.")
    array = _array(path)
    if array.ndim != 4 or array.shape[1:] != shape or not len(array) or array.dtype.kind not in "uifb":
        wanted = ", ".join(map(str, shape))
        raise ValueError(
            f"{path} holds {array.dtype} of shape {array.shape}; the model takes images (N, {wanted}), N at least 1."
        )
    return np.stack([array[i] for i in _spread(len(array), most)]).astype(np.float32)


def _array(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is no whole .npy file ({error}): save images with numpy.save, or give a folder of pictures."
        ) from error


def pictures_in(folder: Path, *, recursive: bool, leave_out: Path | None = None) -> list[Path]:
    """Files of a folder that are pictures by their names, sorted.

    Args:
        folder: to look in.
        recursive: in the folders in it, too.
        leave_out: a folder whose files are passed over.

    Raises:
        ValueError: there are none.
    """
    paths = folder.rglob("*") if recursive else folder.iterdir()
    found = sorted(path for path in paths if path.suffix.lower() in PICTURES and path.is_file())
    if leave_out is not None:
        found = [path for path in found if leave_out.resolve() not in path.resolve().parents]
    if not found:
        raise ValueError(f"There are no pictures in {folder}; looked for {', '.join(sorted(PICTURES))}.")
    return found


def _pictures(
    folder: Path, shape: tuple[int, int, int], pixel_range: tuple[float, float], most: int, resize: str
) -> np.ndarray:
    found = pictures_in(folder, recursive=True)
    low, high = pixel_range
    chosen = [found[i] for i in _spread(len(found), most)]
    images = np.empty((len(chosen), *shape), np.float32)
    for path, image in zip(chosen, images, strict=True):
        place(as_image(path, shape[2]), image, resize)
    return images * np.float32((high - low) / 255) + np.float32(low)


def _spread(count: int, most: int) -> list[int]:
    return [math.floor(i * count / min(count, most)) for i in range(min(count, most))]
