"""How sure a mean average precision is: COCO's AP at an overlap of 0.5, again on many resampled sets of images.

The images of a validation set are drawn anew with replacement, as often as there are. Each resample is one draw for all
detectors, so their differences are paired: an image that is hard for one is mostly hard for the other.

Source: Efron, "Bootstrap methods: another look at the jackknife", 1979, https://doi.org/10.1214/aos/1176344552
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from digits import CLASS_NAMES, Scenes

from resnet_backbones.runtime import Detections

RESAMPLES = 500
OVERLAP = 0.5
RECALLS = np.linspace(0.0, 1.0, 101)  # COCO's


@dataclass(frozen=True)
class Matches:
    """The detections of one class, best first, and whether each found an object.

    Args:
        images: of each detection, the number of its image.
        hits: of each detection, whether it is the one that an object is matched with.
        objects: how many objects of the class each image has.
    """

    images: np.ndarray
    hits: np.ndarray
    objects: np.ndarray

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Average precision, 0 to 1, of sets in which each image stands so many times.

        Args:
            weights: (sets, images), how often.

        Returns:
            One figure a set; NaN where it holds no object of the class.
        """
        found = np.cumsum(weights[:, self.images] * self.hits, axis=1)
        seen = np.cumsum(weights[:, self.images], axis=1)
        objects = weights @ self.objects
        precision = found / np.maximum(seen, 1)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        result = np.full(len(weights), np.nan)
        for row in np.flatnonzero(objects):
            at = np.searchsorted(found[row] / objects[row], RECALLS, side="left")
            result[row] = np.append(precision[row], 0.0)[at].mean()
        return result


def match(scenes: Scenes, found: Sequence[Detections]) -> list[Matches]:
    """Matches detections with objects as COCO does: best score first, each object once, to the best overlap.

    Args:
        scenes: the truth.
        found: one a scene, boxes "xywh".

    Returns:
        One entry a class.
    """
    result = []
    for number in range(len(CLASS_NAMES)):
        scores, images, hits = [], [], []
        for image, one in enumerate(found):
            chosen = np.flatnonzero(np.asarray(one.classes) == number)
            chosen = chosen[np.argsort(-np.asarray(one.scores)[chosen], kind="stable")]
            scores.append(np.asarray(one.scores)[chosen])
            images.append(np.full(len(chosen), image))
            hits.append(_hits(np.asarray(one.boxes)[chosen], scenes.boxes[image][scenes.classes[image] == number]))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        objects = (scenes.classes == number).sum(axis=1)
        result.append(Matches(np.concatenate(images)[order], np.concatenate(hits)[order], objects))
    return result


def _hits(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which boxes, best first, find an object that none before them found."""
    hits, free = np.zeros(len(boxes), bool), np.ones(len(truth), bool)
    for index, overlaps in enumerate(_overlaps(boxes, truth)):
        overlaps = np.where(free, overlaps, 0.0)
        if len(truth) and overlaps.max() >= OVERLAP:
            hits[index], free[overlaps.argmax()] = True, False
    return hits


def _overlaps(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union, (boxes, truth), of "xywh" boxes."""
    boxes, truth = boxes.astype(np.float64)[:, None], truth.astype(np.float64)[None]
    low = np.maximum(boxes[..., :2], truth[..., :2])
    high = np.minimum(boxes[..., :2] + boxes[..., 2:], truth[..., :2] + truth[..., 2:])
    common = np.prod(np.maximum(high - low, 0.0), axis=-1)
    return common / (np.prod(boxes[..., 2:], axis=-1) + np.prod(truth[..., 2:], axis=-1) - common)


def resampled_map50(scenes: Scenes, found: Sequence[Detections], resamples: int = RESAMPLES) -> list[float]:
    """mAP50, in points of 100, on resampled sets of the images; the same sets for every detector.

    Args:
        scenes: the truth.
        found: one a scene, boxes "xywh".
        resamples: how many sets.
    """
    random = np.random.default_rng(0)
    weights = random.multinomial(len(scenes), np.full(len(scenes), 1 / len(scenes)), size=resamples)
    classes = np.stack([one.average_precision(weights) for one in match(scenes, found)])
    return np.round(100 * np.nanmean(classes, axis=0), 3).tolist()


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of resampled figures: their 2.5 and 97.5 percentiles."""
    low, high = np.percentile(np.asarray(differences, np.float64), [2.5, 97.5])
    return float(low), float(high)
