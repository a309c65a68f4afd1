"""Non-maximum suppression in numpy, choosing the very boxes KerasCV's two decoders choose.

``NonMaxSuppression`` (KerasCV's default) suppresses over all classes at once, on each box's best class;
``MultiClassNonMaxSuppression`` suppresses each class by itself.
"""

from __future__ import annotations

import numpy as np

_EPSILON = np.float32(1e-8)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, *, iou_threshold: float, score_threshold: float, max_detections: int
) -> np.ndarray:
    """Greedy suppression as ``tf.image.non_max_suppression_padded``.

    A box goes when its IoU with a better one that stays is at least ``iou_threshold``. As there, a box with no
    coordinate above zero (beyond the top left corner of the image) still suppresses, but is not returned.

    Args:
        boxes: ``(n, 4)`` float32, ``yxyx``.
        scores: ``(n,)`` float32, one a box.
        iou_threshold: 0 to 1.
        score_threshold: boxes with a score not above it are left out.
        max_detections: at most so many are returned.

    Returns:
        Indices of the boxes that stay, best first.
    """
    order = _best_first(scores, score_threshold)
    visible = (boxes > 0).any(axis=-1)
    threshold = np.float32(iou_threshold)
    kept: list[int] = []
    while len(order) and len(kept) < max_detections:
        best, order = order[0], order[1:]
        if visible[best]:
            kept.append(int(best))
        order = order[_iou(boxes[best], boxes[order], _EPSILON) < threshold]
    return np.array(kept, np.int64)


def suppress_per_class(
    boxes: np.ndarray,
    scores: np.ndarray,
    *,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
    max_detections_per_class: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Suppression class by class, then the best of all, as ``tf.image.combined_non_max_suppression``.

    Here a box goes when the IoU is *above* the threshold.

    Args:
        boxes: ``(n, 4)`` float32, ``yxyx``.
        scores: ``(n, classes)`` float32.
        iou_threshold: 0 to 1.
        score_threshold: scores not above it are left out.
        max_detections: at most so many are returned.
        max_detections_per_class: at most so many of one class.

    Returns:
        Indices of the boxes, and their classes, best first.
    """
    threshold = np.float32(iou_threshold)
    found: list[tuple[float, int, int]] = []
    for number in range(scores.shape[1]):
        order, kept = _best_first(scores[:, number], score_threshold), 0
        while len(order) and kept < max_detections_per_class:
            best, order = order[0], order[1:]
            found.append((float(scores[best, number]), int(best), number))
            kept += 1
            order = order[_iou(boxes[best], boxes[order], np.float32(0)) <= threshold]
    found = sorted(found, key=lambda item: -item[0])[:max_detections]
    return np.array([box for _, box, _ in found], np.int64), np.array([cls for _, _, cls in found], np.int64)


def _best_first(scores: np.ndarray, threshold: float) -> np.ndarray:
    order = np.argsort(-scores, kind="stable")  # equal scores: the earlier box first
    return order[scores[order] > np.float32(threshold)]


def _iou(box: np.ndarray, others: np.ndarray, epsilon: np.float32) -> np.ndarray:
    """IoU of one box with others; 0 where both are empty."""
    with np.errstate(over="ignore", invalid="ignore"):  # boxes of a network gone wild reach to infinity
        low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
        shared = np.maximum(high - low, 0).prod(axis=-1)
        areas = (others[:, 2:] - others[:, :2]).prod(axis=-1)
        union = (box[2:] - box[:2]).prod() + areas - shared + epsilon
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
