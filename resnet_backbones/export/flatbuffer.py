"""A LiteRT file as the object tree of its schema, and back."""

from __future__ import annotations

from typing import Any

from tensorflow.lite.python import schema_py_generated as schema


def read_model(data: bytes) -> Any:
    """The file as the object tree of LiteRT's schema."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def write_model(model: Any) -> bytes:
    """The object tree as a file's bytes."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
