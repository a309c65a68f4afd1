"""Where an image lies in the network's input, and the way back from there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from resnet_backbones.runtime.images import resize_bilinear

RESIZES = ("stretch", "letterbox")
GREY = 114.0  # what letterbox pads with, in units of 0..255


@dataclass(frozen=True)
class Placement:
    """The rectangle of the network's input that holds the image.

    Attributes:
        top, left, height, width: of the rectangle, in pixels of the network's input.
        image_size: height and width of the image as it was given.
        padded: whether something else surrounds the image; boxes are then cut at its border.
        read_size: height and width of the image as it was read, where it was reduced; else ``None``.
    """

    top: float
    left: float
    height: float
    width: float
    image_size: tuple[int, int]
    padded: bool = False
    read_size: tuple[int, int] | None = None

    def scaled(self, height: float, width: float) -> Placement:
        """The same rectangle in an input ``height`` times as high and ``width`` times as wide."""
        places = self.top * height, self.left * width, self.height * height, self.width * width
        return Placement(*places, self.image_size, self.padded, self.read_size)

    def to_image(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes ``yxyx`` in pixels of the network's input to pixels of the image.

        Args:
            boxes: ``(n, 4)`` float32.
        """
        height, width = self.image_size
        grow = np.array([height / self.height, width / self.width] * 2, np.float32)
        if not self.padded:
            return boxes * grow
        moved = (boxes - np.array([self.top, self.left] * 2, np.float32)) * grow
        return np.clip(moved, 0, np.array([height, width] * 2, np.float32))


def stretched(image_size: tuple[int, int], input_size: tuple[int, int]) -> Placement:
    """The image fills the whole input; its aspect is lost."""
    return Placement(0, 0, *input_size, image_size)


def letterboxed(image_size: tuple[int, int], input_size: tuple[int, int]) -> Placement:
    """The largest rectangle of the image's aspect, in the middle."""
    ratio = min(input_size[0] / image_size[0], input_size[1] / image_size[1])
    height, width = (min(most, max(1, round(size * ratio))) for size, most in zip(image_size, input_size, strict=True))
    top, left = (input_size[0] - height) // 2, (input_size[1] - width) // 2
    return Placement(top, left, height, width, image_size, padded=(height, width) != tuple(input_size))


def place(image: np.ndarray, into: np.ndarray, resize: str, image_size: tuple[int, int] | None = None) -> Placement:
    """Resizes an image into its row of the batch.

    Args:
        image: ``(H, W, C)``.
        into: ``(height, width, C)`` float32, written to.
        resize: ``"stretch"``, or ``"letterbox"``: aspect kept, the rest grey.
        image_size: height and width before the image was reduced; ``None``: it was not.

    Returns:
        Where the image lies.
    """
    read, input_size = (int(image.shape[0]), int(image.shape[1])), (int(into.shape[0]), int(into.shape[1]))
    size = image_size or read
    if resize == "stretch":
        into[...] = resize_bilinear(image, *input_size)
        placement = stretched(size, input_size)
    else:
        placement = letterboxed(size, input_size)
        top, left, height, width = (int(v) for v in (placement.top, placement.left, placement.height, placement.width))
        into[...] = GREY
        into[top : top + height, left : left + width] = resize_bilinear(image, height, width)
    return placement if size == read else replace(placement, read_size=read)
