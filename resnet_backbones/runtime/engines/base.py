"""What all engines share: what a program is, and how it is fed."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones.runtime.outputs import Output


class Program(ABC):
    """A file with one input, ready to run; safe to share between threads.

    Attributes:
        input_shape: the input's shape as the file has it, batch first; a batch of ``None`` is any number of images.
        output_shapes: shapes by output name, batch first; ``None`` where a size is open.
    """

    input_shape: tuple[int | None, ...]
    output_shapes: dict[str, tuple[int | None, ...]]

    @abstractmethod
    def encoded(self, values: np.ndarray) -> np.ndarray:
        """Float32 in the graph's own units, of any shape, as the type that the input has; quantized where it is."""

    @abstractmethod
    def __call__(self, batch: np.ndarray) -> dict[str, Output]:
        """Runs one batch.

        Args:
            batch: of :attr:`input_shape`, encoded.

        Returns:
            Outputs by name.
        """

    @abstractmethod
    def prepared(self, batch: np.ndarray) -> Callable[[], object]:
        """Feeds a batch and returns a function that runs the engine on it and nothing else, for timing.

        It takes turns with predictions in other threads where the engine runs one batch at a time.

        Args:
            batch: as for calling.
        """


def named_in_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether a path is text in UTF-8, which engines want; on Linux a name may be any bytes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in os.fspath(path))


def file_or_content(path: str | os.PathLike[str]) -> str | bytes:
    """What an engine is given: the path, or the file's content where no engine can say its name."""
    return os.fspath(path) if named_in_utf8(path) else Path(path).read_bytes()


def to_input(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Floats as a graph's input wants them; integer inputs are rounded and clipped.

    Args:
        values: float32.
        dtype: of the graph's input.
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.floor(values + np.float32(0.5)), limits.min, limits.max)
    return np.ascontiguousarray(values, dtype)


def check_input(path: Path, shape: tuple[int | None, ...], names: list[str]) -> None:
    """Refuses what the runtime cannot feed.

    Args:
        path: the file.
        shape: of its first input; ``None`` where a size is open.
        names: of all its inputs.

    Raises:
        ValueError: several inputs, or an open size other than the batch.
    """
    if len(names) != 1:
        raise ValueError(f"{path} takes {len(names)} inputs {names}; the runtime runs models of one input.")
    if None in shape[1:] or not shape:
        raise ValueError(
            f"{path} takes an input of open size {list(shape)}; the runtime needs a fixed one. Export a model built "
            "with a static input_shape."
        )


def quantize(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Floats to a tensor's own type by its scale and zero point.

    Halves round up, as fake-quantization in training does (LiteRT's QUANTIZE rounds them away from zero: the same
    for values above zero).
    """
    dtype = np.dtype(detail["dtype"])
    if dtype.kind not in "iu":
        return np.ascontiguousarray(values, dtype)
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(dtype)
    steps = np.floor(values / np.float32(scale or 1.0) + np.float32(0.5)) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(dtype)


def dequantize(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """A tensor's values as float32; integers that carry no scale (class numbers, say) stay as they are."""
    return Output(values, *detail["quantization"]).floats()
