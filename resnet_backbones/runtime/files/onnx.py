"""What is read from an ``.onnx`` without the onnx package: metadata, and whether it is whole and holds all its data.

A protobuf message may be concatenated, so the metadata, an entry of the model's ``metadata_props``, is appended to the
serialized model. A second entry holds the SHA-256 of the first one's text: protobuf, unlike ZIP, has no checksum of its
own. Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, the encoding is that of
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Attributes:
        number: of the field, as the schema gives it.
        wire: how it is encoded: ``VARINT``, ``FIXED64``, ``BYTES`` or ``FIXED32``.
        value: an unsigned integer of a varint; the bytes of any other.
        start: where the field begins in the message, its tag included.
        end: one past its last byte.
    """

    number: int
    wire: int
    value: int | memoryview
    start: int
    end: int


def walk(message: memoryview) -> Iterator[Field]:
    """Each field of a message in turn; what is nested stays bytes.

    Args:
        message: the bytes.

    Raises:
        ValueError: the bytes are no whole protobuf message.
    """
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"byte {start} has no valid field number")
        if wire == VARINT:
            value, at = _varint(message, at)
            yield Field(number, wire, value, start, at)
            continue
        if wire == BYTES:
            size, at = _varint(message, at)
        elif wire in _FIXED:
            size = _FIXED[wire]
        else:
            raise ValueError(f"byte {start} has an unknown encoding")
        if size > len(message) - at:
            raise ValueError(f"the field at byte {start} is cut short")
        yield Field(number, wire, message[at : at + size], start, at + size)
        at += size


def encode(number: int, content: bytes) -> bytes:
    """One field of bytes, ready to be appended to a message.

    Args:
        number: of the field.
        content: its bytes.
    """
    return _encoded_varint(number << 3 | BYTES) + _encoded_varint(len(content)) + content


def signed(value: int) -> int:
    """A varint as the int64 it stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def varints(packed: memoryview) -> list[int]:
    """The numbers of a packed repeated field.

    Raises:
        ValueError: the last one is cut short.
    """
    numbers, at = [], 0
    while at < len(packed):
        number, at = _varint(packed, at)
        numbers.append(signed(number))
    return numbers


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index in range(at, min(at + 10, len(message))):
        byte = message[index]
        value |= (byte & 0x7F) << 7 * (index - at)
        if byte < 0x80:
            return value & (1 << 64) - 1, index + 1
    raise ValueError(f"the number at byte {at} has no end")


def _encoded_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


KEY = "resnet_backbones"
CHECKSUM_KEY = "resnet_backbones_sha256"
GRAPH, PROPERTIES = 7, 14  # fields of ModelProto
_NAME, _VALUE = 1, 2  # fields of StringStringEntryProto


def write(data: bytes, text: bytes) -> bytes:
    """The model with ``text`` in its properties; what stood there under the same key goes.

    Args:
        data: a serialized ``ModelProto``.
        text: of the metadata.
    """
    return content_of(data) + _entry(KEY, text) + _entry(CHECKSUM_KEY, hashlib.sha256(text).hexdigest().encode())


def content_of(data: bytes) -> bytes:
    """The model without this library's properties.

    Raises:
        ValueError: ``data`` is no ONNX model.
    """
    _, parts = read(memoryview(data))
    return b"".join(parts)


def read(data: memoryview) -> tuple[bytes | None, list[memoryview]]:
    """The metadata's text, and the model without it.

    Args:
        data: a serialized ``ModelProto``.

    Returns:
        The text, or ``None`` where there is none; what remains of the model, in pieces.

    Raises:
        ValueError: it is no ONNX model, is cut short, or the text is not the one that was written.
    """
    found: dict[str, bytes] = {}
    parts, kept, has_graph = [], 0, False
    for field in walk(data):
        has_graph |= field.number == GRAPH and field.wire == BYTES
        if field.number != PROPERTIES or not isinstance(field.value, memoryview):
            continue
        key, value = _key_and_value(field.value)
        if key in (KEY, CHECKSUM_KEY):
            found[key] = value
            parts.append(data[kept : field.start])
            kept = field.end
    if not has_graph:
        raise ValueError("it holds no graph: it is no ONNX model, or is cut short")
    parts.append(data[kept:])
    text = found.get(KEY)
    checksum = found.get(CHECKSUM_KEY)
    if text is not None and checksum is not None and hashlib.sha256(text).hexdigest().encode() != checksum:
        raise ValueError("its metadata is damaged (its checksum is another)")
    return text, parts


def _key_and_value(entry: memoryview) -> tuple[str, bytes]:
    texts = {field.number: bytes(field.value) for field in walk(entry) if isinstance(field.value, memoryview)}
    return texts.get(_NAME, b"").decode(errors="replace"), texts.get(_VALUE, b"")


def _entry(key: str, value: bytes) -> bytes:
    return encode(PROPERTIES, encode(_NAME, key.encode()) + encode(_VALUE, value))


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
    for field in walk(message):
        if field.number in within and isinstance(field.value, memoryview):
            _check(field.value, within[field.number], depth + 1)
    return None


def _check_tensor(message: memoryview) -> None:
    dims: list[int] = []
    data_type, raw = 0, None
    for field in walk(message):
        value = field.value
        if field.number == _DIMS:
            dims += varints(value) if isinstance(value, memoryview) else [signed(value)]
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
