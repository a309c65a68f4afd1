"""What an engine returned: integers with their scale, or floats. Only what is asked for becomes float."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_MANY = 4  # where more than a fourth of the rows has candidates, all rows are looked at


@dataclass(frozen=True, eq=False)
class Output:
    """One output of a file.

    Args:
        values: as the engine gave them.
        scale: of integers, per tensor; 0 where they have none (class numbers, say) and of floats.
        zero_point: of integers.
    """

    values: np.ndarray
    scale: float = 0.0
    zero_point: int = 0

    def __getitem__(self, part: Any) -> Output:
        return Output(self.values[part], self.scale, self.zero_point)

    def floats(self) -> np.ndarray:
        """The values as float32; integers without a scale as they are."""
        if self.values.dtype.kind == "f":
            return self.values.astype(np.float32, copy=False)
        if not self.scale:
            return self.values
        return (self.values.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)

    def rows_above(self, floor: float) -> tuple[np.ndarray, np.ndarray]:
        """The rows of (n, columns) that hold a value above ``floor``, or just below, and the largest value of each."""
        values = self.values
        if self.scale and values.dtype.kind in "iu":
            limits = np.iinfo(values.dtype)
            above = values > math.floor(min(max(floor / self.scale + self.zero_point - 1, limits.min - 1), limits.max))
        else:
            above = values > np.float32(floor)
        if np.count_nonzero(above) * _MANY > len(values):
            rows = np.arange(len(values))
            largest = np.maximum.reduceat(values.ravel(), rows * values.shape[-1])  # as max(axis=-1), in half the time
        else:
            rows = np.unique(np.flatnonzero(above) // values.shape[-1])
            largest = values[rows].max(axis=-1)
        return rows, Output(largest, self.scale, self.zero_point).floats()


class Rows:
    """One image's output (n, columns), in the parts that the file gives it in.

    Args:
        parts: each (some rows, columns).
    """

    ndim = 2

    def __init__(self, parts: Sequence[Output]):
        self._parts = parts
        self._ends = np.cumsum([len(part.values) for part in parts])
        self.shape = (int(self._ends[-1]), int(parts[0].values.shape[-1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.floats(), dtype)

    def floats(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Float32 of ``rows``, which are in order; of all if ``None``."""
        if rows is None:
            return np.concatenate([part.floats() for part in self._parts])
        found = [part[mine].floats() for part, mine in zip(self._parts, self._split(rows), strict=True) if len(mine)]
        return np.concatenate([np.zeros((0, self.shape[1]), np.float32), *found])

    def above(self, floor: float) -> tuple[np.ndarray, np.ndarray]:
        """The rows that hold a value above ``floor``, in order, and the largest value of each, float32."""
        found = [part.rows_above(floor) for part in self._parts]
        starts = [0, *self._ends[:-1]]
        rows = [mine + start for (mine, _), start in zip(found, starts, strict=True)]
        return np.concatenate(rows), np.concatenate([largest for _, largest in found])

    def _split(self, rows: np.ndarray) -> list[np.ndarray]:
        starts = [0, *self._ends[:-1]]
        parts = np.split(rows, np.searchsorted(rows, self._ends[:-1]))
        return [part - start for part, start in zip(parts, starts, strict=True)]


def as_rows(values: np.ndarray | Rows) -> Rows:
    """An array (n, columns) as rows."""
    return values if isinstance(values, Rows) else Rows([Output(np.asarray(values))])


class JoinedOutput:
    """An output of the Keras model, made of outputs of the file.

    Args:
        parts: outputs of the file, batch first.
        axis: along which they are joined, where there are several.

    Raises:
        ValueError: their shapes do not fit.
    """

    def __init__(self, parts: Sequence[Output], axis: int):
        self.parts, self.axis = parts, axis
        shapes = [list(part.values.shape) for part in parts]
        try:
            for shape in shapes if len(parts) > 1 else []:
                del shape[axis]
        except IndexError:
            raise ValueError(f"outputs of {parts[0].values.ndim} axes") from None
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"shapes {', '.join(str(part.values.shape) for part in parts)}")

    @property
    def images(self) -> int | None:
        """Size of the batch; ``None`` for a single number."""
        first = self.parts[0].values
        return len(first) if first.ndim else None

    def first(self, images: int) -> JoinedOutput:
        """Without what fills the last batch up."""
        return self if self.images is None else JoinedOutput([part[:images] for part in self.parts], self.axis)

    def floats(self) -> np.ndarray:
        """The whole batch."""
        pieces = [part.floats() for part in self.parts]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, self.axis)

    def of_image(self, index: int) -> Rows | np.ndarray:
        """One image's: rows that are not floats yet where each image has rows, else an array."""
        rank = self.parts[0].values.ndim
        if len(self.parts) > 1 and self.axis % rank == 0:
            return self.floats()[index]
        if rank == 3 and (len(self.parts) == 1 or self.axis % rank == 1):
            return Rows([part[index] for part in self.parts])
        return JoinedOutput([part[index] for part in self.parts], self.axis % rank - 1).floats()


def part_names(output: Mapping[str, Any]) -> list[str]:
    """The outputs of the file that an output of the Keras model is made of, as the metadata says.

    Args:
        output: an entry of the metadata's ``outputs``.
    """
    return [name for part in output["parts"] for name in ([part] if isinstance(part, str) else part_names(part))]


def joined(output: Mapping[str, Any], given: Mapping[str, Output]) -> JoinedOutput:
    """An output of the Keras model.

    Args:
        output: an entry of the metadata's ``outputs``.
        given: the outputs of the file.

    Raises:
        ValueError: their shapes do not fit.
    """
    parts = [given[part] if isinstance(part, str) else Output(joined(part, given).floats()) for part in output["parts"]]
    return JoinedOutput(parts, output.get("axis", 0))
