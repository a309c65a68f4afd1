"""One decoder a task: the network's outputs become results. A task is picked by its name in the metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_backbones.runtime.anchors import generate_anchors
from resnet_backbones.runtime.boxes import from_yxyx, is_relative
from resnet_backbones.runtime.nms import suppress, suppress_per_class
from resnet_backbones.runtime.results import Classification, Detections


@dataclass(frozen=True)
class Request:
    """What ``predict`` was asked for.

    Args:
        confidence: least score of a detection; ``None`` for the model's own.
        iou: overlap of duplicates; ``None`` for the model's own.
        top_k: number of classes of a classification.
    """

    confidence: float | None = None
    iou: float | None = None
    top_k: int = 5


class Decoder:
    """Turns one image's outputs into a result.

    Args:
        task: the metadata's ``task``.
        input_size: height and width of the network's input, pixels.
        class_names: names by class number, or ``None``.

    Raises:
        KeyError: ``task`` lacks a key.
        ValueError: ``task`` asks for something the runtime cannot do.
    """

    def __init__(self, task: dict[str, Any], input_size: tuple[int, int], class_names: list[str] | None = None):
        self.task, self.input_size, self.class_names = task, input_size, class_names

    def __call__(self, outputs: dict[str, np.ndarray], image_size: tuple[int, int], request: Request) -> Any:
        """Decodes one image.

        Args:
            outputs: of the network, without the batch axis.
            image_size: height and width of the image as it was given; boxes are returned in its pixels.
            request: what the user asked for.
        """
        raise NotImplementedError

    def names(self, classes: np.ndarray) -> list[str] | None:
        """Names of class numbers, where the file holds names."""
        return None if self.class_names is None else [self.class_names[number] for number in classes]


class RetinaNetDecoder(Decoder):
    """Anchor deltas ``box`` and logits ``classification`` to boxes, as KerasCV's ``RetinaNet.decode_predictions``."""

    def __init__(self, task: dict[str, Any], input_size: tuple[int, int], class_names: list[str] | None = None):
        super().__init__(task, input_size, class_names)
        keys = ("sizes", "scales", "aspect_ratios", "strides", "clip_boxes")
        self.anchors = generate_anchors(*input_size, **{key: task["anchors"][key] for key in keys})
        self.variance = np.asarray(task["box_variance"], np.float32)
        self.box_format, self.nms = task["bounding_box_format"], task["nms"]
        if self.nms["kind"] not in ("NonMaxSuppression", "MultiClassNonMaxSuppression"):
            raise ValueError(
                f"The runtime cannot repeat the prediction decoder {self.nms['kind']!r}; it knows NonMaxSuppression "
                "and MultiClassNonMaxSuppression. Set model.prediction_decoder to one of these before exporting, or "
                "use raw()."
            )

    def __call__(self, outputs: dict[str, np.ndarray], image_size: tuple[int, int], request: Request) -> Detections:
        """Decodes ``box`` ``(anchors, 4)`` and ``classification`` ``(anchors, classes)`` of one image."""
        boxes, scores = self._boxes(outputs["box"]), outputs["classification"]
        if self.nms["from_logits"]:
            scores = _sigmoid(scores)
        kept, classes = self._suppress(boxes, scores, request)
        height, width = image_size
        grow = np.array([height / self.input_size[0], width / self.input_size[1]] * 2, np.float32)
        return Detections(
            boxes=from_yxyx(boxes[kept] * grow, self.box_format, height, width),
            classes=classes,
            scores=scores[kept, classes],
            names=self.names(classes),
        )

    def _boxes(self, deltas: np.ndarray) -> np.ndarray:
        """Deltas to ``yxyx`` in pixels of the network's input."""
        if deltas.shape != self.anchors.shape:
            raise ValueError(
                f"The network gives {len(deltas)} boxes, the metadata describes {len(self.anchors)} anchors: the "
                "metadata belongs to another model or input size. Export the model again."
            )
        deltas = deltas * self.variance
        sizes = self.anchors[:, 2:]
        centres = deltas[:, :2] * sizes + self.anchors[:, :2]
        with np.errstate(over="ignore"):
            half = np.exp(deltas[:, 2:]) * sizes / 2
        return np.concatenate([centres - half, centres + half], axis=-1)

    def _suppress(self, boxes: np.ndarray, scores: np.ndarray, request: Request) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the boxes that stay, and their classes."""
        nms = self.nms
        limits = {
            "score_threshold": nms["confidence_threshold"] if request.confidence is None else request.confidence,
            "iou_threshold": nms["iou_threshold"] if request.iou is None else request.iou,
            "max_detections": nms["max_detections"],
        }
        # KerasCV suppresses in the decoder's own space: its epsilon then weighs the same here.
        space = "rel_yxyx" if is_relative(nms.get("bounding_box_format", self.box_format)) else "yxyx"
        places = from_yxyx(boxes, space, *self.input_size)
        if nms["kind"] == "MultiClassNonMaxSuppression":
            most = nms["max_detections_per_class"]
            return suppress_per_class(places, scores, max_detections_per_class=most, **limits)
        kept = suppress(places, scores.max(axis=-1), **limits)
        return kept, scores[kept].argmax(axis=-1)


class ImageClassifierDecoder(Decoder):
    """Scores to the best classes; logits (activation ``"linear"``) pass through softmax first."""

    def __call__(self, outputs: dict[str, np.ndarray], image_size: tuple[int, int], request: Request) -> Classification:
        """Decodes the one output ``(classes,)`` of one image."""
        del image_size  # a class has no place
        (scores,) = outputs.values()
        if self.task.get("activation") == "linear":
            scores = np.exp(scores - scores.max())
            scores = scores / scores.sum()
        classes = np.argsort(-scores, kind="stable")[: request.top_k]
        return Classification(classes, scores[classes], self.names(classes))


DECODERS: dict[str, type[Decoder]] = {"retinanet": RetinaNetDecoder, "image_classifier": ImageClassifierDecoder}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))
