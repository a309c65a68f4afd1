"""What ``predict`` returns, one object an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_backbones.runtime import drawing
from resnet_backbones.runtime.boxes import to_yxyx


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects found in one image, best first.

    Args:
        boxes: ``(n, 4)`` float32, in the model's bounding box format; pixel formats are in pixels of the
            image as it was given, not as it was resized.
        classes: ``(n,)`` int64, class numbers.
        scores: ``(n,)`` float32, 0 to 1.
        names: the classes' names, or ``None`` where the file holds none.
        box_format: of ``boxes``, e.g. ``"xywh"``; ``None`` where unknown (then they cannot be drawn).
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    names: list[str] | None = None
    box_format: str | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def draw(self, image: Any, *, font_size: int | None = None, zoom: int | None = None) -> Any:
        """The image with a box, name and score an object, a colour a class.

        Args:
            image: the one that was predicted on: an array, a path or a PIL image.
            font_size: of the names, pixels; ``None`` for one that suits the picture.
            zoom: whole factor by which the picture is enlarged first; ``None``: small ones, so that names can be read.

        Returns:
            A new PIL image, RGB.

        Raises:
            ImportError: Pillow is not installed.
            ValueError: the boxes' format is unknown.

        Example:
            >>> model.predict("street.jpg")[0].draw("street.jpg").save("found.png")
        """
        if self.box_format is None:
            raise ValueError("These boxes have no box_format; say it: dataclasses.replace(found, box_format='xywh').")
        picture, _, (height, width) = drawing.as_picture(image, zoom)
        boxes = to_yxyx(self.boxes, self.box_format, height, width)
        boxes = boxes * np.array([picture.height / height, picture.width / width] * 2, np.float32)
        pairs = enumerate(zip(self.classes, self.scores, strict=True))
        labels = [f"{_name(self.names, index, number)} {score:.2f}" for index, (number, score) in pairs]
        return drawing.draw_boxes(picture, boxes, self.classes, labels, font_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "boxes": self.boxes.tolist(),
            "box_format": self.box_format,
            "classes": self.classes.tolist(),
            "scores": self.scores.tolist(),
            "names": self.names,
        }

    def to_records(self) -> list[dict[str, Any]]:
        """One dictionary of plain values per object, best first: class, name, score, box and box_format."""
        ranked = _ranked(self.classes, self.scores, self.names)
        return [
            {**record, "box": box, "box_format": self.box_format}
            for record, box in zip(ranked, self.boxes.tolist(), strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Classification:
    """The most likely classes of one image, best first.

    Args:
        classes: ``(k,)`` int64, class numbers.
        scores: ``(k,)`` float32, probabilities.
        names: the classes' names, or ``None`` where the file holds none.
    """

    classes: np.ndarray
    scores: np.ndarray
    names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def draw(self, image: Any, *, font_size: int | None = None, zoom: int | None = None) -> Any:
        """The image with the classes and their probabilities written below it.

        Args:
            image: the one that was predicted on: an array, a path or a PIL image.
            font_size: of the names, pixels; ``None`` for one that suits the picture.
            zoom: whole factor by which the picture is enlarged first; ``None``: small ones.

        Returns:
            A new PIL image, RGB.

        Raises:
            ImportError: Pillow is not installed.
        """
        picture, _, _ = drawing.as_picture(image, zoom)
        rows = [
            (_name(self.names, i, c), float(s)) for i, (c, s) in enumerate(zip(self.classes, self.scores, strict=True))
        ]
        return drawing.draw_captions(picture, rows, font_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"classes": self.classes.tolist(), "scores": self.scores.tolist(), "names": self.names}

    def to_records(self) -> list[dict[str, Any]]:
        """One dictionary of plain values per class, best first: class, name and score."""
        return _ranked(self.classes, self.scores, self.names)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of every pixel of one image.

    Args:
        classes: ``(H, W)`` int64, class numbers, at the size of the image as it was given; of a picture above 2^25
            pixels, at the size it was reduced to while it was read.
        scores: ``(H, W)`` float32, what the network gave the class, 0 to 1.
        names: of all classes, by number, or ``None`` where the file holds none.
    """

    classes: np.ndarray
    scores: np.ndarray | None = None
    names: list[str] | None = None

    def shares(self) -> dict[int, float]:
        """Class number -> share of the pixels, most first; classes that do not occur are left out."""
        numbers, counts = np.unique(self.classes, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {int(numbers[i]): float(counts[i] / self.classes.size) for i in order}

    def draw(
        self,
        image: Any,
        *,
        opacity: float = 0.55,
        background: int | None = 0,
        font_size: int | None = None,
        zoom: int | None = None,
    ) -> Any:
        """The image with each class in a colour laid over it, and a legend.

        Args:
            image: the one that was predicted on: an array, a path or a PIL image.
            opacity: of the colours, 0 to 1.
            background: a class that is left as it is; ``None`` to colour all.
            font_size: of the legend, pixels; ``None`` for one that suits the picture.
            zoom: whole factor by which the picture is enlarged first; ``None``: small ones.

        Returns:
            A new PIL image, RGB.

        Raises:
            ImportError: Pillow is not installed.
            ValueError: the image has another size than the segmentation.
        """
        picture, zoom, size = drawing.as_picture(image, zoom)
        height, width = self.classes.shape
        if (height, width) not in (size, (picture.height // zoom, picture.width // zoom)):  # the latter: a reduced one
            raise ValueError(
                f"The segmentation is of an image of {height} x {width}, this one has {size[0]} x {size[1]} pixels: "
                "give the image that was predicted on."
            )
        rows, columns = np.arange(picture.height) * height // picture.height, np.arange(picture.width)
        classes = self.classes[rows[:, None], columns * width // picture.width]
        legend = {number: _name(self.names, number, number) for number in self.shares() if number != background}
        return drawing.draw_classes(picture, classes, legend, opacity, font_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: shares of the pixels, not the map."""
        return {"height": self.classes.shape[0], "width": self.classes.shape[1], "shares": self.to_records()}

    def to_records(self) -> list[dict[str, Any]]:
        """One dictionary of plain values per class that occurs, largest first: class, name and share of the pixels."""
        return [
            {"class": number, "name": None if self.names is None else self.names[number], "share": share}
            for number, share in self.shares().items()
        ]


def _ranked(classes: np.ndarray, scores: np.ndarray, names: list[str] | None) -> list[dict[str, Any]]:
    return [
        {"class": number, "name": None if names is None else names[index], "score": score}
        for index, (number, score) in enumerate(zip(classes.tolist(), scores.tolist(), strict=True))
    ]


def _name(names: list[str] | None, index: int, number: int) -> str:
    return f"class {int(number)}" if names is None else names[index]
