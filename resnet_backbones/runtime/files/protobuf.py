"""Walks the fields of a protobuf message without knowing its schema: enough to read ONNX with numpy only.

Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
