"""Images of the Keras model's shape and units become the graph's input; where each lies there, and the way back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resnet_backbones.runtime.images import resize_bilinear

RESIZES = ("stretch", "letterbox")
GREY = 114.0  # what letterbox pads with, in units of 0..255


@dataclass(frozen=True)
class ImagePlace:
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

    def scaled(self, height: float, width: float) -> ImagePlace:
        """The same rectangle in an input ``height`` times as high and ``width`` times as wide."""
        places = self.top * height, self.left * width, self.height * height, self.width * width
        return ImagePlace(*places, self.image_size, self.padded, self.read_size)

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


def stretched(image_size: tuple[int, int], input_size: tuple[int, int]) -> ImagePlace:
    """The image fills the whole input; its aspect is lost."""
    return ImagePlace(0, 0, *input_size, image_size)


def letterboxed(image_size: tuple[int, int], input_size: tuple[int, int]) -> ImagePlace:
    """The largest rectangle of the image's aspect, in the middle."""
    ratio = min(input_size[0] / image_size[0], input_size[1] / image_size[1])
    height, width = (min(most, max(1, round(size * ratio))) for size, most in zip(image_size, input_size, strict=True))
    top, left = (input_size[0] - height) // 2, (input_size[1] - width) // 2
    return ImagePlace(top, left, height, width, image_size, padded=(height, width) != tuple(input_size))


def place(image: np.ndarray, into: np.ndarray, resize: str, image_size: tuple[int, int] | None = None) -> ImagePlace:
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


MOST_AT_ONCE = 32  # images a call, where the file takes any number
MOST_VALUES = 1 << 29  # of one batch: 2 GiB of float32


class Feed:
    """How a file wants its input.

    Args:
        shape: of the file's input, in its own layout; a batch of ``None`` is any number of images.
        given: the metadata's ``input``; empty for a foreign file.
        path: of the file, for messages.

    Raises:
        ValueError: the metadata describes another input than the file has, or the input is far too large.
    """

    def __init__(self, shape: tuple[int | None, ...], given: dict[str, Any], path: str):
        self._channels_first = given.get("layout") == "NCHW" and len(shape) == 4
        #: The input's shape as the Keras model has it: batch, height, width, channels.
        self.shape = (shape[0], shape[2], shape[3], shape[1]) if self._channels_first else shape
        values = math.prod(size or 1 for size in shape)
        if not 0 < values <= MOST_VALUES or 0 in shape:
            raise ValueError(
                f"{path} takes an input of shape {self.shape}; the runtime feeds 1 to {MOST_VALUES} values."
            )
        stated = given.get("shape")
        if stated is not None and (len(stated) != len(shape) or tuple(stated[1:]) != self.shape[1:]):
            raise ValueError(
                f"The metadata of {path} describes an input of shape {stated}, the file takes {list(self.shape)}: the "
                "metadata belongs to another model. Export it again."
            )
        self._scale = self._factor(given.get("scale", 1.0), path)
        self._offset = self._factor(given.get("offset", 0.0), path)
        self._network_size = given.get("network_size")

    @property
    def channels(self) -> int:
        """Of the image."""
        size = self.shape[-1]
        if len(self.shape) != 4 or size is None:
            raise ValueError(f"The network's input {self.shape} is no image: use raw().")
        return size

    @property
    def network_size(self) -> tuple[int, int]:
        """Height and width that the network itself sees: another than the input's where the file resizes."""
        height, width = (self._network_size or self.shape[1:3])[:2]
        return int(height or 0), int(width or 0)

    def batch_size(self, images: int) -> int:
        """How many images a call takes, of so many."""
        return max(1, min(images, MOST_AT_ONCE) if self.shape[0] is None else self.shape[0])

    def empty(self, images: int) -> np.ndarray:
        """Zeros for a batch that is to hold so many images."""
        return np.zeros((images if self.shape[0] is None else self.shape[0], *self.shape[1:]), np.float32)

    def table(self, encoded: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """(256, channels): what each byte of an image is in the graph, ``encoded`` as its input is."""
        values = np.repeat(np.arange(256, dtype=np.float32)[:, None], self.channels, axis=1)
        return encoded(values * self._scale + self._offset)

    def looked_up(self, batch: np.ndarray, table: np.ndarray) -> np.ndarray:
        """What :meth:`to_graph` and encoding give, for a batch of bytes, by :meth:`table`."""
        if self._channels_first:
            batch = np.ascontiguousarray(np.moveaxis(batch, -1, 1))
        if (table == table[:, :1]).all():
            return np.take(table[:, 0], batch)
        found = np.empty(batch.shape, table.dtype)
        for channel in range(table.shape[1]):
            part = (slice(None), channel) if self._channels_first else (..., channel)
            found[part] = np.take(table[:, channel], batch[part])
        return found

    def to_graph(self, batch: np.ndarray) -> np.ndarray:
        """A batch in the Keras model's shape and units, in the graph's."""
        scaled = batch * self._scale + self._offset
        return np.ascontiguousarray(np.moveaxis(scaled, -1, 1)) if self._channels_first else scaled

    def in_network(self, placement: ImagePlace) -> ImagePlace:
        """Where an image lies, in pixels of what the network sees."""
        height, width = self.network_size
        if (height, width) == tuple(self.shape[1:3]):
            return placement
        return placement.scaled(height / (self.shape[1] or 1), width / (self.shape[2] or 1))

    def _factor(self, value: Any, path: str) -> np.ndarray:
        factor = np.asarray(value, np.float32)
        if factor.ndim and factor.shape not in ((1,), self.shape[-1:]):
            raise ValueError(f"The metadata of {path} scales {factor.size} channels, the input has {self.shape[-1]}.")
        return factor
