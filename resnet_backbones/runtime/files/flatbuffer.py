"""Reads the few facts of a ``.tflite`` that engines other than LiteRT do not tell, with every offset checked.

Source: the schema of TensorFlow Lite,
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

IDENTIFIER = b"TFL3"
_INT4 = 17  # of TensorType


class Table:
    """A table of a flatbuffer; every read stays within the data.

    Args:
        data: the whole flatbuffer.
        at: where the table begins.

    Raises:
        ValueError: it lies outside the data.
    """

    def __init__(self, data: memoryview, at: int):
        self._data, self._at = data, at
        table = at - self._read("<i", at)
        size = self._read("<H", table)
        self._slots = [self._read("<H", table + offset) for offset in range(4, size, 2)]

    @classmethod
    def root(cls, data: memoryview) -> Table:
        """The first table of a file.

        Raises:
            ValueError: the data is no ``.tflite``.
        """
        if bytes(data[4:8]) != IDENTIFIER:
            raise ValueError("it is no .tflite")
        return cls(data, struct.unpack_from("<I", data)[0])

    def number(self, slot: int, kind: str, default: int = 0) -> int:
        """A scalar, ``kind`` as ``struct`` writes it."""
        at = self._field(slot)
        return default if at is None else self._read(kind, at)

    def table(self, slot: int) -> Table | None:
        """A table within."""
        at = self._field(slot)
        return None if at is None else Table(self._data, at + self._read("<I", at))

    def tables(self, slot: int) -> list[Table]:
        """The tables of a vector."""
        starts, count = self._vector(slot, 4)
        places = (starts + 4 * index for index in range(count))
        return [Table(self._data, place + self._read("<I", place)) for place in places]

    def array(self, slot: int, dtype: str) -> np.ndarray:
        """The numbers of a vector."""
        start, count = self._vector(slot, np.dtype(dtype).itemsize)
        return np.frombuffer(self._data, dtype, count, start) if count else np.zeros(0, dtype)

    def length(self, slot: int) -> int:
        """Number of bytes of a vector of bytes."""
        return self._vector(slot, 1)[1]

    def text(self, slot: int) -> str:
        """A string."""
        start, count = self._vector(slot, 1)
        return bytes(self._data[start : start + count]).decode(errors="replace")

    def _field(self, slot: int) -> int | None:
        offset = self._slots[slot] if slot < len(self._slots) else 0
        return self._at + offset if offset else None

    def _vector(self, slot: int, size: int) -> tuple[int, int]:
        at = self._field(slot)
        if at is None:
            return 0, 0
        start = at + self._read("<I", at)
        count = self._read("<I", start)
        if start + 4 + count * size > len(self._data):
            raise ValueError("a list reaches beyond its end")
        return start + 4, count

    def _read(self, kind: str, at: int) -> int:
        if at < 0 or at + struct.calcsize(kind) > len(self._data):
            raise ValueError("it points outside of itself")
        return struct.unpack_from(kind, self._data, at)[0]


@dataclass(frozen=True)
class End:
    """An input or output of a ``.tflite``.

    Attributes:
        tensor: its tensor's name.
        name: its name in the signature, or the tensor's where the file has none.
        quantization: scale and zero point; a scale of 0 for none.
    """

    tensor: str
    name: str
    quantization: tuple[float, int]


def read_ends(path: Path) -> tuple[list[End], list[End]]:
    """Inputs and outputs of a ``.tflite``'s first subgraph.

    Raises:
        ValueError: no whole ``.tflite``.
    """
    try:
        model = Table.root(memoryview(path.read_bytes()))
        graphs = model.tables(2)
        if not graphs:
            raise ValueError("it holds no graph")
        tensors = graphs[0].tables(0)
        signatures = {signature.text(2): signature for signature in model.tables(7)}
        signature = signatures.get("serving_default", next(iter(signatures.values()), None))
        return _ends(tensors, graphs[0], signature, 0), _ends(tensors, graphs[0], signature, 1)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}. Copy or export it again.") from error


def holds_four_bits(path: Path) -> bool:
    """Whether a ``.tflite`` has tensors of 4 bits."""
    model = Table.root(memoryview(path.read_bytes()))
    return any(tensor.number(1, "<b") == _INT4 for graph in model.tables(2) for tensor in graph.tables(0))


def _ends(tensors: list[Table], graph: Table, signature: Table | None, slot: int) -> list[End]:
    if signature is None:
        names: list[tuple[str | None, int]] = [(None, int(index)) for index in graph.array(1 + slot, "<i4")]
    else:
        names = [(entry.text(0), entry.number(1, "<I")) for entry in signature.tables(slot)]
    ends = []
    for name, index in names:
        if not 0 <= index < len(tensors):
            raise ValueError(f"it has no tensor {index}")
        tensor = tensors[index].text(3)
        ends.append(End(tensor, tensor if name is None else name, _quantization(tensors[index].table(4))))
    return ends


def _quantization(table: Table | None) -> tuple[float, int]:
    scales = table.array(2, "<f4") if table else []
    zeros = table.array(3, "<i8") if table else []
    return (float(scales[0]), int(zeros[0]) if len(zeros) else 0) if len(scales) == 1 else (0.0, 0)
