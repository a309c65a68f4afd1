"""Anchor boxes, the same numbers in the same order as ``keras_cv.layers.AnchorGenerator``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


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
