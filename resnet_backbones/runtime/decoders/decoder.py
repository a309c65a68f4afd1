"""What the decoders of all tasks share, and those of classifiers: of whole images, and of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_backbones.runtime.feeding import ImagePlace, stretched
from resnet_backbones.runtime.files.schema import MOST_CLASSES, Values
from resnet_backbones.runtime.images import resized_rows
from resnet_backbones.runtime.results import Classification, Segmentation

Outputs = dict[str, Any]
Size = tuple[int, int]


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
        ValueError: ``task`` lacks a key, has a value that is not allowed, or asks for something the runtime cannot do.
    """

    def __init__(self, task: dict[str, Any], input_size: tuple[int, int], class_names: list[str] | None = None):
        self.task, self.input_size, self.class_names = Values(task, "task"), input_size, class_names
        self.num_classes = self.task.whole("num_classes", 1, MOST_CLASSES, default=None)
        if None not in (class_names, self.num_classes) and len(class_names or ()) != self.num_classes:
            raise ValueError(
                f"The metadata has {len(class_names or ())} class names for {self.num_classes} classes: export the "
                "model again with a name for each."
            )

    def __call__(
        self, outputs: Outputs, image_size: Size, request: Request, placement: ImagePlace | None = None
    ) -> Any:
        """Decodes one image.

        Args:
            outputs: of the network, without the batch axis: arrays, or :class:`~resnet_backbones.runtime.outputs.Rows`.
            image_size: height and width of the image as it was given; boxes are returned in its pixels.
            request: what the user asked for.
            placement: where the image lies in the network's input; ``None``: it was stretched to all of it.
        """
        raise NotImplementedError

    def place(self, image_size: tuple[int, int], placement: ImagePlace | None) -> ImagePlace:
        """Where the image lies."""
        return stretched(image_size, self.input_size) if placement is None else placement

    def names(self, classes: np.ndarray) -> list[str] | None:
        """Names of class numbers, where the file holds names."""
        names = self.class_names
        if names is None:
            return None
        return [names[n] if 0 <= n < len(names) else f"class {n}" for n in classes.tolist()]


def output_of(outputs: dict[str, Any], name: str | None, rank: int, last: int | None = None) -> Any:
    """One output, its shape checked: an array, or :class:`~resnet_backbones.runtime.outputs.Rows`.

    Args:
        outputs: of the network, without the batch axis.
        name: of the output; ``None`` for the only one.
        rank: number of axes it must have.
        last: size its last axis must have; ``None`` for any.

    Raises:
        ValueError: the network gives another.
    """
    if name is None and len(outputs) == 1:
        (name,) = outputs
    value = outputs.get(name) if name is not None else None
    if value is None or value.ndim != rank or 0 in value.shape[1:] or (last is not None and value.shape[-1] != last):
        wanted = f"{name or 'one output'!r} of {rank} axes" + (f", the last of {last}" if last else "")
        shapes = {key: array.shape for key, array in outputs.items()}
        raise ValueError(
            f"The task needs {wanted} an image; the network gives {shapes}. The metadata belongs to another model: "
            "export the model again."
        )
    return value


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities, each by itself."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))


_STRIP_VALUES = 1 << 22  # of a segmentation's scores at the image's size: 16 MiB at a time


class ImageClassifierDecoder(Decoder):
    """Scores to the best classes; logits (activation ``"linear"``) pass through softmax first."""

    def __init__(self, task: dict[str, Any], input_size: tuple[int, int], class_names: list[str] | None = None):
        super().__init__(task, input_size, class_names)
        self.logits = self.task.text("activation", default=None) == "linear"

    def __call__(
        self, outputs: Outputs, image_size: Size, request: Request, placement: ImagePlace | None = None
    ) -> Classification:
        """Decodes the one output ``(classes,)`` of one image."""
        del image_size, placement  # a class has no place
        scores = output_of(outputs, None, 1, self.num_classes)
        if self.logits:
            scores = softmax(scores)
        classes = np.argsort(-scores, kind="stable")[: request.top_k]
        return Classification(classes, scores[classes], self.names(classes))


class SegmentationDecoder(Decoder):
    """Probabilities a class and pixel to the class of each pixel of the image, as it was given."""

    def __call__(
        self, outputs: Outputs, image_size: Size, request: Request, placement: ImagePlace | None = None
    ) -> Segmentation:
        """Decodes the one output ``(height, width, classes)`` of one image; ``request`` has nothing for it."""
        del request
        scores = output_of(outputs, None, 3, self.num_classes)
        place = self.place(image_size, placement)
        if self.task.text("activation", default=None) == "linear":
            scores = softmax(scores)
        grow = scores.shape[0] / self.input_size[0], scores.shape[1] / self.input_size[1]
        window = place.scaled(*grow)
        top, left = round(window.top), round(window.left)
        bottom, right = (
            max(top + 1, round(window.top + window.height)),
            max(left + 1, round(window.left + window.width)),
        )
        scores = np.asarray(scores[top:bottom, left:right], np.float32)
        height, width = place.read_size or image_size
        classes, best = np.empty((height, width), np.int64), np.empty((height, width), np.float32)
        rows = max(1, _STRIP_VALUES // (width * scores.shape[-1]))
        for index, strip in enumerate(resized_rows(scores, height, width, rows)):
            part = slice(index * rows, index * rows + len(strip))
            classes[part], best[part] = strip.argmax(axis=-1), strip.max(axis=-1)
        return Segmentation(classes, best, self.names(np.arange(scores.shape[-1])))
