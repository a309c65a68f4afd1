"""Bounding box formats, by the names KerasCV gives them.

Everything in the runtime works on ``yxyx`` in pixels (top, left, bottom, right) and converts at the end.
"""

from __future__ import annotations

import numpy as np

#: The formats known, without their relative forms ("rel_xyxy", ...).
FORMATS = ("yxyx", "xyxy", "xywh", "center_xywh", "center_yxhw")


def is_relative(box_format: str) -> bool:
    """Whether the format's coordinates are fractions of the image's size."""
    return box_format.lower().startswith("rel_")


def from_yxyx(boxes: np.ndarray, box_format: str, height: float, width: float) -> np.ndarray:
    """Converts boxes from ``yxyx`` pixels.

    Args:
        boxes: ``(..., 4)``: top, left, bottom, right in pixels.
        box_format: ``"xyxy"``, ``"yxyx"``, ``"xywh"``, ``"center_xywh"``, ``"center_yxhw"``, ``"rel_xyxy"``,
            ``"rel_yxyx"`` or ``"rel_xywh"``.
        height: of the image in pixels; relative formats divide by it.
        width: of the image in pixels.

    Returns:
        ``(..., 4)`` boxes in ``box_format``.

    Raises:
        ValueError: no such format.
    """
    name = _plain(box_format)
    if is_relative(box_format):
        boxes = boxes / np.array([height, width, height, width], boxes.dtype)
    top, left, bottom, right = np.moveaxis(boxes, -1, 0)
    if name == "yxyx":
        parts = (top, left, bottom, right)
    elif name == "xyxy":
        parts = (left, top, right, bottom)
    elif name == "xywh":
        parts = (left, top, right - left, bottom - top)
    elif name == "center_xywh":
        parts = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    else:
        parts = ((top + bottom) / 2, (left + right) / 2, bottom - top, right - left)
    return np.stack(parts, axis=-1)


def to_yxyx(boxes: np.ndarray, box_format: str, height: float, width: float) -> np.ndarray:
    """Converts boxes to ``yxyx`` pixels; the inverse of :func:`from_yxyx`.

    Args:
        boxes: ``(..., 4)`` boxes in ``box_format``.
        box_format: as :func:`from_yxyx` knows them.
        height: of the image in pixels; relative formats are multiplied by it.
        width: of the image in pixels.

    Returns:
        ``(..., 4)``: top, left, bottom, right in pixels.

    Raises:
        ValueError: no such format.
    """
    name = _plain(box_format)
    a, b, c, d = np.moveaxis(np.asarray(boxes), -1, 0)
    if name == "yxyx":
        parts = (a, b, c, d)
    elif name == "xyxy":
        parts = (b, a, d, c)
    elif name == "xywh":
        parts = (b, a, b + d, a + c)
    elif name == "center_xywh":
        parts = (b - d / 2, a - c / 2, b + d / 2, a + c / 2)
    else:
        parts = (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
    found = np.stack(parts, axis=-1)
    return found * np.array([height, width, height, width], found.dtype) if is_relative(box_format) else found


def _plain(box_format: str) -> str:
    name = box_format.lower().removeprefix("rel_")
    if name not in FORMATS:
        raise ValueError(f"Unknown bounding box format {box_format!r}; KerasCV's formats are known, e.g. 'xywh'.")
    return name
