"""Decoders of classifiers: of whole images, and of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from resnet_backbones.runtime.decoders.decoder import Decoder, Request, output_of, softmax
from resnet_backbones.runtime.images import resized_rows
from resnet_backbones.runtime.placement import Placement
from resnet_backbones.runtime.results import Classification, Segmentation

_STRIP_VALUES = 1 << 22  # of a segmentation's scores at the image's size: 16 MiB at a time


class ImageClassifierDecoder(Decoder):
    """Scores to the best classes; logits (activation ``"linear"``) pass through softmax first."""

    def __init__(self, task: dict[str, Any], input_size: tuple[int, int], class_names: list[str] | None = None):
        super().__init__(task, input_size, class_names)
        self.logits = self.task.text("activation", default=None) == "linear"

    def __call__(
        self,
        outputs: dict[str, np.ndarray],
        image_size: tuple[int, int],
        request: Request,
        placement: Placement | None = None,
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
        self,
        outputs: dict[str, np.ndarray],
        image_size: tuple[int, int],
        request: Request,
        placement: Placement | None = None,
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
