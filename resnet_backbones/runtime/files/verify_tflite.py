"""Checks a ``.tflite`` before LiteRT reads it: every tensor is there, and is computed before it is used.

LiteRT checks that offsets stay within the file, and most of what a kernel is given; but it follows a graph that writes
into constants, or reads what nothing has computed, into a crash (docs/reliability.md has the figures). The places
are those of its schema, see :mod:`resnet_backbones.runtime.files.flatbuffer`.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_backbones.runtime.files.flatbuffer import Table

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
