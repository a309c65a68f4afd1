"""Decoders of detectors: RetinaNet, YOLOV8, and files that suppress boxes themselves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from resnet_backbones.runtime.boxes import (
    FORMATS,
    cell_centres,
    count_anchors,
    from_yxyx,
    generate_anchors,
    is_relative,
    to_yxyx,
)
from resnet_backbones.runtime.decoders.decoder import Decoder, Outputs, Request, Size, output_of, sigmoid, softmax
from resnet_backbones.runtime.decoders.nms import suppress, suppress_per_class
from resnet_backbones.runtime.feeding import ImagePlace
from resnet_backbones.runtime.files.schema import LARGEST_SIDE, MOST_DETECTIONS, Values
from resnet_backbones.runtime.outputs import Rows, as_rows
from resnet_backbones.runtime.results import Detections

BOX_FORMATS = (*FORMATS, *(f"rel_{name}" for name in FORMATS))
_KINDS = ("NonMaxSuppression", "MultiClassNonMaxSuppression")
_MOST_ANCHORS = 1 << 22
_MOST_LEVELS = 16
_FIRST_LOOKS = (1024, 8192)  # candidates
_MARGIN = 1e-3  # of a threshold that is looked at before activation: what is left out is surely below


class Suppression:
    """KerasCV's prediction decoder: what of the boxes is kept.

    Args:
        decoder: whose ``task`` holds ``nms`` and ``bounding_box_format``.

    Raises:
        ValueError: a setting is missing or out of range, or the kind is unknown.
    """

    def __init__(self, decoder: Decoder):
        nms, own_format = decoder.task.inner("nms"), decoder.task.text("bounding_box_format", BOX_FORMATS)
        self.kind = nms.text("kind")
        if self.kind not in _KINDS:
            raise ValueError(
                f"The runtime cannot repeat the prediction decoder {self.kind!r}; it knows {' and '.join(_KINDS)}. Set "
                "model.prediction_decoder to one of these before exporting, or use raw()."
            )
        self.from_logits = nms.flag("from_logits")
        self.confidence = nms.number("confidence_threshold", 0, 1)
        self.iou = nms.number("iou_threshold", 0, 1)
        self.most = nms.whole("max_detections", 1, MOST_DETECTIONS)
        if self.kind == "MultiClassNonMaxSuppression":
            self.most_per_class = nms.whole("max_detections_per_class", 1, MOST_DETECTIONS)
        # KerasCV suppresses in the decoder's own space: its epsilon then weighs the same here.
        self.space = "rel_yxyx" if is_relative(nms.text("bounding_box_format", BOX_FORMATS, own_format)) else "yxyx"
        self.input_size = decoder.input_size

    def __call__(
        self, boxes_of: Callable[[np.ndarray], np.ndarray], predicted: Rows, request: Request
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes that stay, their classes and their scores, best first.

        The best candidates are decoded and compared first, the others only while boxes are missing.

        Args:
            boxes_of: row numbers to boxes, ``(n, 4)`` ``yxyx`` in pixels of the network's input.
            predicted: ``(cells, classes)``, probabilities or logits.
            request: thresholds asked for.
        """
        least = self.confidence if request.confidence is None else request.confidence
        floor = self._before_activation(least) - _MARGIN
        candidates, best = predicted.above(floor)
        candidates, best = candidates[best > floor], best[best > floor]  # which drops NaN, too
        for count in (*_FIRST_LOOKS, len(candidates)):
            chosen, rest = _best(best, max(count, 4 * self.most))
            rows = candidates[chosen]
            # A row that was left out has no score above that of its best class, `rest`.
            threshold = max(np.float32(least), self._activated(rest))
            scores = self._activated(predicted.floats(rows))
            boxes = boxes_of(rows)
            kept, classes = self._suppress(boxes, scores, threshold, request)
            if len(kept) == self.most or len(rows) == len(candidates):
                break
        wild = np.count_nonzero((scores.max(axis=-1, initial=0) > threshold) & ~np.isfinite(boxes).all(axis=-1))
        if wild:
            warnings.warn(
                f"{wild} boxes that score above {least:g} have sides that are NaN or infinite and are left out: the "
                "network's box output has gone wild, in training or in float16.",
                stacklevel=4,
            )
        return boxes[kept], classes, scores[kept, classes]

    def _suppress(
        self, boxes: np.ndarray, scores: np.ndarray, threshold: float, request: Request
    ) -> tuple[np.ndarray, np.ndarray]:
        limits: dict[str, Any] = {
            "score_threshold": threshold,
            "iou_threshold": self.iou if request.iou is None else request.iou,
            "max_detections": self.most,
        }
        places = from_yxyx(boxes, self.space, *self.input_size)
        if self.kind == "MultiClassNonMaxSuppression":
            return suppress_per_class(places, scores, max_detections_per_class=self.most_per_class, **limits)
        kept = suppress(places, scores.max(axis=-1), **limits)
        return kept, scores[kept].argmax(axis=-1)

    def _activated(self, values: Any) -> Any:
        return sigmoid(np.asarray(values, np.float32)) if self.from_logits else values

    def _before_activation(self, score: float) -> float:
        if not self.from_logits:
            return score
        return math.log(score / (1 - score)) if 0 < score < 1 else math.copysign(math.inf, score - 0.5)


def _best(scores: np.ndarray, count: int) -> tuple[np.ndarray, Any]:
    """Positions of the best scores, about ``count``, in order, and the best score of the others."""
    if count >= len(scores):
        return np.arange(len(scores)), np.float32(-np.inf)
    rest = np.partition(scores, len(scores) - count - 1)[len(scores) - count - 1]
    return np.flatnonzero(scores > rest), rest


class DetectorDecoder(Decoder):
    """What detectors have in common: scores, suppression, boxes in pixels of the image as it was given."""

    box_output, score_output = "boxes", "classes"
    box_values = 4

    def __init__(self, task: dict[str, Any], input_size: tuple[int, int], class_names: list[str] | None = None):
        super().__init__(task, input_size, class_names)
        self.box_format = self.task.text("bounding_box_format", BOX_FORMATS)
        self.suppression = Suppression(self)

    def __call__(
        self, outputs: Outputs, image_size: Size, request: Request, placement: ImagePlace | None = None
    ) -> Detections:
        """Decodes boxes ``(cells, values)`` and scores ``(cells, classes)`` of one image."""
        predicted = as_rows(output_of(outputs, self.box_output, 2, self.box_values))
        scores = as_rows(output_of(outputs, self.score_output, 2, self.num_classes))
        self.check_count(len(predicted), len(scores))
        boxes, classes, best = self.suppression(lambda rows: self.boxes(predicted.floats(rows), rows), scores, request)
        found = self.place(image_size, placement).to_image(boxes)
        return Detections(
            boxes=from_yxyx(found, self.box_format, *image_size),
            classes=classes,
            scores=best,
            names=self.names(classes),
            box_format=self.box_format,
        )

    def check_count(self, boxes: int, scores: int) -> None:
        """Raises ``ValueError`` where the network has another number of cells than the metadata describes."""
        if boxes != self.count or boxes != scores:
            raise ValueError(
                f"The network gives {boxes} boxes and {scores} scores, the metadata describes {self.count} anchors: "
                "the metadata belongs to another model or input size. Export the model again."
            )

    @property
    def count(self) -> int:
        """Number of cells or anchors of the input."""
        raise NotImplementedError

    def boxes(self, predicted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Boxes ``yxyx`` in pixels of the network's input, of the cells numbered ``rows``."""
        raise NotImplementedError


class RetinaNetDecoder(DetectorDecoder):
    """Anchor deltas ``box`` and logits ``classification`` to boxes, as KerasCV's ``RetinaNet.decode_predictions``."""

    box_output, score_output = "box", "classification"

    def __init__(self, task: dict[str, Any], input_size: tuple[int, int], class_names: list[str] | None = None):
        given = Values(task, "task").inner("anchors")
        super().__init__(task, input_size, class_names)
        settings: dict[str, Any] = {
            "sizes": given.numbers("sizes", 1e-6, 1e6, _MOST_LEVELS),
            "scales": given.numbers("scales", 1e-6, 1e6),
            "aspect_ratios": given.numbers("aspect_ratios", 1e-6, 1e6),
            "strides": given.numbers("strides", 1, LARGEST_SIDE, _MOST_LEVELS, whole=True),
            "clip_boxes": given.flag("clip_boxes"),
        }
        if len(settings["sizes"]) != len(settings["strides"]):
            raise ValueError("metadata: task.anchors needs as many sizes as strides.")
        self.per_cell = len(settings["scales"]) * len(settings["aspect_ratios"])
        check_size(count_anchors(*input_size, settings["strides"], self.per_cell))
        self.anchors = generate_anchors(*input_size, **settings)
        variance = self.task.numbers("box_variance", -1e6, 1e6, 4)
        if len(variance) != 4:
            raise ValueError(f"metadata: task.box_variance must be four numbers, not {variance}.")
        self.variance = np.asarray(variance, np.float32)

    @property
    def count(self) -> int:
        """Number of anchors."""
        return len(self.anchors)

    def boxes(self, predicted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Deltas to ``yxyx`` in pixels of the network's input, of the anchors numbered ``rows``."""
        deltas, anchors = predicted * self.variance, self.anchors[rows]
        sizes = anchors[:, 2:]
        centres = deltas[:, :2] * sizes + anchors[:, :2]
        with np.errstate(over="ignore", invalid="ignore"):
            half = np.exp(deltas[:, 2:]) * sizes / 2
            return np.concatenate([centres - half, centres + half], axis=-1)


class YOLOV8Decoder(DetectorDecoder):
    """Distributions over distances, ``boxes``, and probabilities, ``classes``, to boxes, as KerasCV's detector.

    Each side's distance from the cell's centre, in strides, is the mean of a distribution over 0..15.

    Source: Li et al., Generalized Focal Loss, https://arxiv.org/abs/2006.04388
    """

    bins = 16
    box_values = 4 * bins

    def __init__(self, task: dict[str, Any], input_size: tuple[int, int], class_names: list[str] | None = None):
        super().__init__(task, input_size, class_names)
        strides = [8, 16, 32]
        if "strides" in self.task.values:
            strides = self.task.numbers("strides", 1, LARGEST_SIDE, _MOST_LEVELS, whole=True)
        check_size(count_anchors(*input_size, strides, 1))
        self.centres, self.strides = cell_centres(*input_size, strides)

    @property
    def count(self) -> int:
        """Number of cells of all levels."""
        return len(self.centres)

    def boxes(self, predicted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Distributions to ``yxyx`` in pixels of the network's input, of the cells numbered ``rows``."""
        shares = softmax(predicted.reshape(len(predicted), 4, self.bins))
        left, top, right, bottom = np.moveaxis((shares * np.arange(self.bins, dtype=np.float32)).sum(axis=-1), -1, 0)
        strides = self.strides[rows, None]
        y, x = np.moveaxis(self.centres[rows] / strides, -1, 0)
        return np.stack([y - top, x - left, y + bottom, x + right], axis=-1) * strides


class SuppressedDecoder(Decoder):
    """Files that decode and suppress boxes themselves.

    Outputs ``boxes`` (n, 4), ``scores`` (n,) and ``classes`` (n,), best first, and ``count`` where not all of the n are
    boxes. The task's ``boxes`` (default ``"rel_yxyx"``) is what the file gives, ``bounding_box_format`` what
    ``predict`` returns.
    """

    def __init__(self, task: dict[str, Any], input_size: tuple[int, int], class_names: list[str] | None = None):
        super().__init__(task, input_size, class_names)
        self.box_format = self.task.text("bounding_box_format", BOX_FORMATS)
        self.file_format = self.task.text("boxes", BOX_FORMATS, "rel_yxyx")

    def __call__(
        self, outputs: Outputs, image_size: Size, request: Request, placement: ImagePlace | None = None
    ) -> Detections:
        """Decodes one image; only ``confidence`` can be asked for, and only above the file's own."""
        boxes, scores = np.asarray(output_of(outputs, "boxes", 2, 4)), output_of(outputs, "scores", 1)
        classes = output_of(outputs, "classes", 1)
        if not len(boxes) == len(scores) == len(classes):
            raise ValueError(f"The network gives {len(boxes)} boxes, {len(scores)} scores, {len(classes)} classes.")
        count = float(np.reshape(outputs.get("count", len(boxes)), -1)[0])
        good = np.arange(len(boxes)) < count
        good &= scores > (0 if request.confidence is None else np.float32(request.confidence))
        found = to_yxyx(np.asarray(boxes[good], np.float32), self.file_format, *self.input_size)
        found = self.place(image_size, placement).to_image(found)
        numbers = np.nan_to_num(classes[good]).astype(np.int64)
        return Detections(
            boxes=from_yxyx(found, self.box_format, *image_size),
            classes=numbers,
            scores=scores[good],
            names=self.names(numbers),
            box_format=self.box_format,
        )


def check_size(anchors: int) -> None:
    """Refuses metadata whose anchors would fill the memory."""
    if anchors > _MOST_ANCHORS:
        raise ValueError(f"The metadata describes {anchors} anchors; at most {_MOST_ANCHORS} are decoded.")
