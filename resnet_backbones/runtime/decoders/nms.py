"""Non-maximum suppression in numpy, choosing the very boxes KerasCV's two decoders choose.

``NonMaxSuppression`` (KerasCV's default) suppresses over all classes at once, on each box's best class;
``MultiClassNonMaxSuppression`` suppresses each class by itself. Boxes are compared block by block, best first, and no
further than until enough have been found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MOST_UNSEEN = 1000  # boxes outside the image that may suppress others
_BLOCK = 256
_EPSILON = np.float32(1e-8)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, *, iou_threshold: float, score_threshold: float, max_detections: int
) -> np.ndarray:
    """Greedy suppression as ``tf.image.non_max_suppression_padded``.

    A box goes when its IoU with a better one that stays is at least ``iou_threshold``. As there, a box with no
    coordinate above zero (beyond the top left corner of the image) still suppresses, but is not returned; the
    ``MOST_UNSEEN`` best of these do. Boxes that are not finite neither suppress nor are returned.

    Args:
        boxes: ``(n, 4)`` float32, ``yxyx``.
        scores: ``(n,)`` float32, one per box.
        iou_threshold: 0 to 1.
        score_threshold: boxes with a score not above it are left out.
        max_detections: at most so many are returned.

    Returns:
        Indices of the boxes that stay, best first.
    """
    order = _best_first(scores, score_threshold)
    order = order[np.isfinite(boxes[order]).all(axis=-1)]
    ranked, threshold = boxes[order], np.float32(iou_threshold)
    seen = (ranked > 0).any(axis=-1)
    if threshold > 0:  # an empty box has an IoU of 0 with all others
        useful = seen | (ranked[:, 2:] > ranked[:, :2]).all(axis=-1)
        order, ranked, seen = order[useful], ranked[useful], seen[useful]
    kept = _greedy(ranked, lambda one, others: _iou(one, others, _EPSILON) >= threshold, max_detections, seen=seen)
    return order[kept]


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

    Here a box goes when the IoU is *above* the threshold. Boxes that are not finite are left out.

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
    threshold, by_class = np.float32(iou_threshold), scores.T
    classes, rows = np.nonzero((by_class > np.float32(score_threshold)) & np.isfinite(boxes).all(axis=-1))
    order = np.argsort(-by_class[classes, rows], kind="stable")  # equal scores: the earlier class, then box first
    classes, rows = classes[order], rows[order]
    kept = _greedy(
        boxes[rows],
        lambda one, others: _iou(one, others, np.float32(0)) > threshold,
        max_detections,
        groups=classes,
        most_per_group=max_detections_per_class,
    )
    return rows[kept], classes[kept]


def _greedy(
    boxes: np.ndarray,
    suppresses: Callable[[np.ndarray, np.ndarray], np.ndarray],
    most: int,
    *,
    seen: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    most_per_group: int = 0,
) -> np.ndarray:
    """Goes through boxes, best first, and keeps each that none kept before suppresses.

    Args:
        boxes: ``(n, 4)``, best first.
        suppresses: ``(a, 4)`` and ``(b, 4)`` boxes to ``(a, b)`` booleans.
        most: after so many kept it ends.
        seen: ``(n,)``: the others suppress, but do not count as kept. ``None``: all are seen.
        groups: ``(n,)`` numbers; boxes suppress those of their own group only. ``None``: all are of one.
        most_per_group: as ``most``, for each group.

    Returns:
        Positions of those kept and seen.
    """
    kept: list[int] = []
    standing: list[int] = []
    unseen, counts = 0, np.zeros(1 if groups is None or not len(groups) else groups.max() + 1, np.int64)

    def against(one: np.ndarray, others: np.ndarray) -> np.ndarray:
        found = suppresses(boxes[one], boxes[others])
        return found if groups is None else found & (groups[one][:, None] == groups[others])

    for start in range(0, len(boxes), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(boxes)))
        if groups is not None:
            block = block[counts[groups[block]] < most_per_group]
        block = block[~against(np.array(standing, np.int64), block).any(axis=0)]
        matrix, alive = against(block, block), np.ones(len(block), bool)
        for index, position in enumerate(block.tolist()):
            group = 0 if groups is None else groups[position]
            if not alive[index] or (groups is not None and counts[group] >= most_per_group):
                continue
            if seen is not None and not seen[position]:
                unseen += 1
                if unseen > MOST_UNSEEN:
                    continue
            else:
                kept.append(position)
                counts[group] += 1
            standing.append(position)
            alive[index + 1 :] &= ~matrix[index, index + 1 :]
            if len(kept) == most:
                return np.array(kept, np.int64)
    return np.array(kept, np.int64)


def _best_first(scores: np.ndarray, threshold: float) -> np.ndarray:
    good = np.flatnonzero(scores > np.float32(threshold))
    return good[np.argsort(-scores[good], kind="stable")]  # equal scores: the earlier box first


def _iou(boxes: np.ndarray, others: np.ndarray, epsilon: np.float32) -> np.ndarray:
    """IoU of each box with each other: ``(a, 4)`` and ``(b, 4)`` to ``(a, b)``; 0 where both are empty."""
    top, left, bottom, right = np.moveaxis(boxes[:, None], -1, 0)
    y, x, y_end, x_end = np.moveaxis(others[None], -1, 0)
    with np.errstate(over="ignore", invalid="ignore"):  # boxes of a network gone wild reach far
        height = np.maximum(np.minimum(bottom, y_end) - np.maximum(top, y), 0)
        shared = height * np.maximum(np.minimum(right, x_end) - np.maximum(left, x), 0)
        union = (bottom - top) * (right - left) + (y_end - y) * (x_end - x) - shared + epsilon
        return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
