"""Metadata in an ``.onnx``: an entry of the model's ``metadata_props``, read and written without the onnx package.

A protobuf message may be concatenated, so the entry is appended to the serialized model. A second entry holds the
SHA-256 of the first one's text: protobuf, unlike ZIP, has no checksum of its own.
"""

from __future__ import annotations

import hashlib

from resnet_backbones.runtime.files import protobuf

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
    for field in protobuf.walk(data):
        has_graph |= field.number == GRAPH and field.wire == protobuf.BYTES
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
    texts = {field.number: bytes(field.value) for field in protobuf.walk(entry) if isinstance(field.value, memoryview)}
    return texts.get(_NAME, b"").decode(errors="replace"), texts.get(_VALUE, b"")


def _entry(key: str, value: bytes) -> bytes:
    return protobuf.encode(PROPERTIES, protobuf.encode(_NAME, key.encode()) + protobuf.encode(_VALUE, value))
