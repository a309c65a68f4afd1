"""Checks an ``.onnx`` before any engine reads it: it must be whole, and hold all of its data itself.

Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path

from resnet_backbones.runtime.files import protobuf

# Message -> its fields that may hold tensors, and what message each is.
_WITHIN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_DEEPEST = 32  # graphs within graphs; exported networks have one
_DIMS, _DATA_TYPE, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 9, 13, 14
_EXTERNAL = 1
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 21: 4, 22: 4}


def verify_onnx(path: str | os.PathLike[str]) -> None:
    """Walks the whole model.

    Args:
        path: the file.

    Raises:
        ValueError: it is no whole ONNX model, a tensor's data has another size than its shape, or a tensor's data is in
            another file: such a path may lead anywhere on this machine.
    """
    with Path(path).open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        _check(data, "model", 0)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}. Copy or export it again.") from error


def _check(message: memoryview, kind: str, depth: int) -> None:
    if kind == "tensor":
        return _check_tensor(message)
    if depth > 4 * _DEEPEST:
        raise ValueError("its graphs are nested too deeply")
    within = _WITHIN[kind]
    for field in protobuf.walk(message):
        if field.number in within and isinstance(field.value, memoryview):
            _check(field.value, within[field.number], depth + 1)
    return None


def _check_tensor(message: memoryview) -> None:
    dims: list[int] = []
    data_type, raw = 0, None
    for field in protobuf.walk(message):
        value = field.value
        if field.number == _DIMS:
            dims += protobuf.varints(value) if isinstance(value, memoryview) else [protobuf.signed(value)]
        elif field.number == _RAW_DATA and isinstance(value, memoryview):
            raw = value
        elif field.number == _DATA_TYPE and isinstance(value, int):
            data_type = value
        elif field.number == _EXTERNAL_DATA or (field.number == _DATA_LOCATION and value == _EXTERNAL):
            raise ValueError(
                "a tensor's data is in another file, which this library refuses to follow. Save the model as one file: "
                "onnx.save(onnx.load(path), path, save_as_external_data=False)"
            )
    if any(size < 0 for size in dims):
        raise ValueError(f"a tensor has the shape {dims}")
    bits = _BITS.get(data_type)
    if raw is not None and bits is not None and len(raw) != math.ceil(math.prod(dims) * bits / 8):
        raise ValueError(f"a tensor of shape {dims} holds {len(raw)} bytes")
