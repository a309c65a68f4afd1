"""Images of the Keras model's shape and units become the graph's input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from resnet_backbones.runtime.placement import Placement

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

    def in_network(self, placement: Placement) -> Placement:
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
