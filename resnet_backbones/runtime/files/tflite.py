"""What is read from a ``.tflite`` with every offset checked: ends, metadata, and whether its graph can be run at all.

The metadata is a ZIP archive appended to the flatbuffer, TFLite's own convention. LiteRT checks that offsets stay
within the file, and most of what a kernel is given; but it follows a graph that writes into constants, or reads what
nothing has computed, into a crash (docs/reliability.md has the figures). Source of places and codes: the schema,
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

import io
import mmap
import os
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

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


MEMBER = "resnet_backbones.json"
LARGEST = 64 << 20  # bytes of JSON

_LOCAL_HEADER = re.compile(rb"PK\x03\x04.{26}" + re.escape(MEMBER.encode()), re.DOTALL)
_TAIL = 1 << 20  # an archive cut short is looked for in the last MiB
_ENCRYPTED = 0x1


def write(data: bytes, text: bytes) -> bytes:
    """The file with ``text`` in its archive; other files of an archive already there are kept.

    Args:
        data: a whole ``.tflite``.
        text: of the metadata.
    """
    flatbuffer, others = _split(data)
    file = io.BytesIO()
    file.write(flatbuffer)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*others, (MEMBER, text)]:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # dated 1980: reproducible
    return file.getvalue()


def content_of(data: bytes) -> bytes:
    """The flatbuffer alone."""
    return _split(data)[0]


def read(file: IO[bytes], size: int) -> tuple[bytes | None, int]:
    """The metadata's text and where the flatbuffer ends.

    Args:
        file: the ``.tflite``, opened for reading.
        size: of the file, bytes.

    Returns:
        The text, or ``None`` where there is none; length of the flatbuffer, bytes.

    Raises:
        ValueError: the archive is damaged or cut short.
    """
    if not zipfile.is_zipfile(file):
        file.seek(max(0, size - _TAIL))
        if _LOCAL_HEADER.search(file.read()):
            raise ValueError("it is cut short: its metadata has no end")
        return None, size
    try:
        with zipfile.ZipFile(file) as archive:
            start = min((entry.header_offset for entry in archive.infolist()), default=size)
            if not 0 <= start <= size:
                raise ValueError("its directory points outside the file")
            if MEMBER not in archive.namelist():
                return None, start
            return _read_member(archive), start
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, OSError) as error:
        raise ValueError(f"its metadata is damaged ({error})") from error


def _read_member(archive: zipfile.ZipFile) -> bytes:
    entry = archive.getinfo(MEMBER)
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is packed in a way this library never writes")
    with archive.open(entry) as member:
        text = member.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST} bytes")
    return text


def _split(data: bytes) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The flatbuffer alone, and the other files of the archive behind it."""
    file = io.BytesIO(data)
    if not zipfile.is_zipfile(file):
        return data, []
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        start = min((entry.header_offset for entry in entries), default=len(data))
        others = [(entry.filename, archive.read(entry)) for entry in entries if entry.filename != MEMBER]
    return data[:start], others


# Operators whose inputs may be left out (-1), and which of them; None: any. Codes of BuiltinOperator.
_OPTIONAL: dict[int, tuple[int, ...] | None] = {
    3: (2,),  # CONV_2D: bias
    4: (2,),  # DEPTHWISE_CONV_2D
    9: (2,),  # FULLY_CONNECTED
    67: (3,),  # TRANSPOSE_CONV
    132: (2,),  # CONV_3D
    141: (3,),  # CONV_3D_TRANSPOSE
    **dict.fromkeys((16, 24, 27, 32, 35, 44, 46, 52)),  # LSTM and kin, SVDF, RNN, custom operators
}
# Operator -> type of its options: codes of BuiltinOptions. Given others, a kernel reads zeros.
_OPTIONS = {0: 11, 1: 5, 2: 10, 3: 1, 4: 2, 9: 8, 12: 5, 17: 5, 18: 21, 22: 17, 23: 15, 25: 9, 40: 27, 41: 28, 43: 30}
_OPTIONS |= {45: 32, 49: 35, 56: 40, 67: 49, 83: 59, 88: 64, 97: 74, 126: 101}
# Operators whose integer kernels cannot do without scales.
_SCALED = (0, 1, 2, 3, 4, 6, 9, 14, 17, 18, 25, 28, 40, 41, 67, 98, 114, 117, 126)
_SMALL_INTEGERS = (3, 7, 9, 17)  # uint8, int16, int8, int4: codes of TensorType
_NEEDED = (1, 3, 4, 12, 17, 67)  # convolutions and pooling: they divide by their strides


@dataclass
class _Tensor:
    """What of a tensor the check needs.

    Attributes:
        constant: its values stand in the file.
        given: it needs none to be computed: a variable, or a tensor without elements.
        scaled: it holds no integers of 8 or 16 bits, or says what they stand for.
    """

    constant: bool
    given: bool
    scaled: bool


def verify_tflite(path: str | os.PathLike[str]) -> None:
    """Walks the whole model.

    Args:
        path: the file.

    Raises:
        ValueError: it is no whole ``.tflite``, or its graph cannot be run as it stands.
    """
    with Path(path).open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        _check(Table.root(data), len(data))
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read: {error}. It is cut short, damaged, or no .tflite. Copy or export it again."
        ) from error


def _check(model: Table, size: int) -> None:
    codes = [max(code.number(0, "<b"), code.number(3, "<i")) for code in model.tables(1)]
    buffers = []
    for buffer in model.tables(4):
        start, length = buffer.number(1, "<Q"), buffer.number(2, "<Q")
        if start + length > size:
            raise ValueError("a tensor's values lie outside the file")
        buffers.append(buffer.length(0) + length > 0)
    graphs = model.tables(2)
    if not graphs:
        raise ValueError("it holds no graph")
    for graph in graphs:
        _check_graph(graph, codes, buffers)
    _check_signatures(model, graphs)


def _check_graph(graph: Table, codes: list[int], buffers: list[bool]) -> None:
    tensors = []
    for table in graph.tables(0):
        buffer = table.number(2, "<I")
        if buffer >= len(buffers):
            raise ValueError(f"tensor {len(tensors)} has no values")
        given = bool(table.number(5, "<B")) or 0 in table.array(0, "<i4")
        tensors.append(_Tensor(buffers[buffer], given, _is_scaled(table)))
    known = [tensor.constant or tensor.given for tensor in tensors]
    for index in _indices(graph, 1, len(tensors)):
        _write(index, tensors, known, "an input")
    for number, operator in enumerate(graph.tables(3)):
        code = operator.number(0, "<I")
        if code >= len(codes):
            raise ValueError(f"operator {number} has no kind")
        _check_operator(operator, codes[code], number, tensors, known)
    for index in _indices(graph, 2, len(tensors)):
        if not known[index]:
            raise ValueError(f"nothing computes its output, tensor {index}")


def _check_operator(operator: Table, code: int, number: int, tensors: list[_Tensor], known: list[bool]) -> None:
    optional = _OPTIONAL.get(code, ())
    inputs, outputs = operator.array(1, "<i4").tolist(), _indices(operator, 2, len(tensors))
    for position, index in enumerate(inputs):
        if index == -1 and (optional is None or position in optional):
            continue
        if not 0 <= index < len(tensors) or not known[index]:
            raise ValueError(f"operator {number} uses tensor {index}, which nothing computes before it")
    for index in outputs:
        _write(index, tensors, known, f"operator {number}")
    bare = [index for index in (*inputs, *outputs) if index >= 0 and not tensors[index].scaled]
    if bare and code in _SCALED:
        raise ValueError(f"operator {number} computes with tensor {bare[0]}, whose integers have no scale")
    if code not in _OPTIONS:
        return
    options = operator.number(3, "<B")
    if not inputs or not outputs:
        raise ValueError(f"operator {number} computes nothing")
    if options != _OPTIONS[code] and (options or code in _NEEDED):
        raise ValueError(f"operator {number} has the options of another")


def _is_scaled(table: Table) -> bool:
    if table.number(1, "<b") not in _SMALL_INTEGERS:
        return True
    quantization = table.table(4)
    scales = quantization.array(2, "<f4") if quantization else np.zeros(0)
    return len(scales) > 0 and bool(np.isfinite(scales).all() and (scales > 0).all())


def _write(index: int, tensors: list[_Tensor], known: list[bool], what: str) -> None:
    """Notes that a tensor gets its values."""
    if tensors[index].constant:
        raise ValueError(f"{what} writes into tensor {index}, which is constant")
    if known[index] and not tensors[index].given:
        raise ValueError(f"{what} writes into tensor {index}, which is written already")
    known[index] = True


def _indices(table: Table, slot: int, count: int) -> list[int]:
    found = table.array(slot, "<i4").tolist()
    wrong = [index for index in found if not 0 <= index < count]
    if wrong:
        raise ValueError(f"it has no tensor {wrong[0]}")
    return found


def _check_signatures(model: Table, graphs: list[Table]) -> None:
    for signature in model.tables(7):
        graph = signature.number(4, "<I")
        if graph >= len(graphs):
            raise ValueError("a signature is of no graph")
        for slot in (0, 1):
            ends = set(graphs[graph].array(1 + slot, "<i4").tolist())
            if not {entry.number(1, "<I") for entry in signature.tables(slot)} <= ends:
                raise ValueError("a signature names a tensor that is no input or output")
