"""Bounding boxes: their formats, by the names KerasCV gives them, and the anchors that detectors start from.

Everything in the runtime works on ``yxyx`` in pixels (top, left, bottom, right) and converts at the end. Anchors are
the same numbers in the same order as ``keras_cv.layers.AnchorGenerator`` gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def generate_anchors(
    height: int,
    width: int,
    *,
    sizes: Sequence[float],
    scales: Sequence[float],
    aspect_ratios: Sequence[float],
    strides: Sequence[int],
    clip_boxes: bool,
) -> np.ndarray:
    """Anchors of every level, level after level, row after row; in a cell scale by scale, ratio by ratio.

    Args:
        height: of the network's input, pixels.
        width: of the network's input, pixels.
        sizes: base size of each level's anchors, pixels.
        scales: multipliers of the base size.
        aspect_ratios: width over height.
        strides: of each level, pixels.
        clip_boxes: whether anchors are cut at the image's border.

    Returns:
        ``(anchors, 4)`` float32 in ``center_yxhw``: centre y, centre x, height, width in pixels.

    Source: Lin et al., Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002
    """
    root = np.sqrt(np.asarray(aspect_ratios, np.float32))
    levels = []
    for size, stride in zip(sizes, strides, strict=True):
        scaled = np.array([np.float32(size) * np.float32(scale) for scale in scales])
        half_height = 0.5 * (scaled[:, None] / root).reshape(-1)
        half_width = 0.5 * (scaled[:, None] * root).reshape(-1)
        y, x = np.meshgrid(_centres(height, stride), _centres(width, stride), indexing="ij")
        corners = [
            y[..., None] - half_height,
            x[..., None] - half_width,
            y[..., None] + half_height,
            x[..., None] + half_width,
        ]
        levels.append(np.stack([corner.reshape(-1) for corner in corners], axis=-1))
    boxes = np.concatenate(levels).astype(np.float32)
    if clip_boxes:
        boxes = np.clip(boxes, 0, np.array([height, width, height, width], np.float32))
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def count_anchors(height: int, width: int, strides: Sequence[int], per_cell: int) -> int:
    """How many anchors :func:`generate_anchors` makes, ``per_cell`` in each cell.

    Args:
        height: of the network's input, pixels.
        width: of the network's input, pixels.
        strides: of each level, pixels.
        per_cell: number of scales times number of aspect ratios.
    """
    return sum(math.ceil(height / stride) * math.ceil(width / stride) for stride in strides) * per_cell


def cell_centres(height: int, width: int, strides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The centre of each cell of each level, level after level, row after row.

    Args:
        height: of the network's input, pixels.
        width: of the network's input, pixels.
        strides: of each level, pixels.

    Returns:
        ``(cells, 2)`` float32, y and x in pixels; ``(cells,)`` float32, each cell's stride.
    """
    levels = [
        np.stack(np.meshgrid(_centres(height, stride), _centres(width, stride), indexing="ij"), axis=-1).reshape(-1, 2)
        for stride in strides
    ]
    repeated = [np.full(len(level), stride, np.float32) for level, stride in zip(levels, strides, strict=True)]
    return np.concatenate(levels), np.concatenate(repeated)


def _centres(length: int, stride: int) -> np.ndarray:
    return np.arange(0.5 * stride, math.ceil(length / stride) * stride, stride, dtype=np.float32)
