"""Bounding box formats, by the names KerasCV gives them.

Everything in the runtime works on ``yxyx`` in pixels (top, left, bottom, right) and converts at the end.
"""

from __future__ import annotations

import numpy as np


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
    name = box_format.lower()
    if is_relative(name):
        boxes = boxes / np.array([height, width, height, width], boxes.dtype)
        name = name.removeprefix("rel_")
    top, left, bottom, right = np.moveaxis(boxes, -1, 0)
    if name == "yxyx":
        parts = (top, left, bottom, right)
    elif name == "xyxy":
        parts = (left, top, right, bottom)
    elif name == "xywh":
        parts = (left, top, right - left, bottom - top)
    elif name == "center_xywh":
        parts = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    elif name == "center_yxhw":
        parts = ((top + bottom) / 2, (left + right) / 2, bottom - top, right - left)
    else:
        raise ValueError(f"Unknown bounding box format {box_format!r}; KerasCV's formats are known, e.g. 'xywh'.")
    return np.stack(parts, axis=-1)
