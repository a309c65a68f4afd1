"""TensorFlow Lite's own metadata: what standard task libraries read of a file's input, outputs and labels.

It is a flatbuffer of its own within the file, and ``labels.txt`` in the archive behind it.

Source: the schema, https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from resnet_backbones.export.litert.flatbuffer import Appender, read_model, write_model
from resnet_backbones.runtime.outputs import part_names

ENTRY, LABELS = "TFLITE_METADATA", "labels.txt"
_IMAGE, _BOXES, _FEATURE = 2, 3, 1  # the union ContentProperties
_NORMALIZATION = 1  # the union ProcessUnitOptions
_AXIS_LABELS, _VALUE_LABELS = 2, 3  # AssociatedFileType
_BOUNDARIES = 1  # BoundingBoxType


@dataclass(frozen=True)
class _Byte:
    value: int


class _Table(dict):  # type: ignore[type-arg]
    """A table: slot -> value. Bytes are wrapped; lists hold numbers, texts or tables."""


def with_standard_metadata(data: bytes, metadata: dict[str, Any]) -> bytes:
    """Adds the standard metadata to a file, and its labels.

    Args:
        data: the file, a flatbuffer alone.
        metadata: this library's own (runtime/metadata.py).
    """
    model = read_model(data)
    names = metadata.get("class_names")
    outputs = [part for output in metadata["outputs"] for part in part_names(output)]
    entry = schema.MetadataT()
    entry.name = ENTRY
    entry.buffer = Appender(model).buffer(_encoded(_model_metadata(metadata, outputs, bool(names))))
    model.metadata = [*(model.metadata or []), entry]
    data = write_model(model)
    return data if not names else _with_labels(data, names)


def _with_labels(data: bytes, names: list[str]) -> bytes:
    file = io.BytesIO()
    file.write(data)
    with zipfile.ZipFile(file, "a") as archive:  # stored, not deflated: task libraries map it
        archive.writestr(zipfile.ZipInfo(LABELS), "\n".join(names) + "\n")
    return file.getvalue()


def _model_metadata(metadata: dict[str, Any], outputs: list[str], labelled: bool) -> _Table:
    task = metadata["task"]["name"]
    tensors = [_output(task, name, labelled) for name in outputs]
    subgraph = _Table({2: [_input(metadata["input"])], 3: tensors})
    return _Table({0: task, 1: "Exported by resnet-backbones.", 3: [subgraph], 7: "1.0.0"})


def _input(facts: dict[str, Any]) -> _Table:
    channels = facts["shape"][-1]
    color = {1: 2, 3: 1}.get(channels, 0)  # ColorSpaceType: grey, RGB, unknown
    scale, offset = (np.atleast_1d(np.asarray(facts[key], np.float64)) for key in ("scale", "offset"))
    mean, deviation = (-offset / scale).tolist(), (1.0 / scale).tolist()
    unit = _Table({0: _Byte(_NORMALIZATION), 1: _Table({0: mean, 1: deviation})})
    content = _Table({0: _Byte(_IMAGE), 1: _Table({0: _Byte(color)})})
    return _Table({0: "images", 3: content, 4: [unit]})


def _output(task: str, name: str, labelled: bool) -> _Table:
    table = _Table({0: name, 3: _Table({0: _Byte(_FEATURE), 1: _Table()})})
    if task == "detections" and name == "boxes":  # top, left, bottom, right of boundaries that are left, top, ...
        boxes = _Table({0: [1, 0, 3, 2], 1: _Byte(_BOUNDARIES)})
        table[3] = _Table({0: _Byte(_BOXES), 1: boxes})
    kind = {("detections", "classes"): _VALUE_LABELS}.get((task, name))
    if task == "image_classifier":
        kind = _AXIS_LABELS
    if labelled and kind is not None:
        table[6] = [_Table({0: LABELS, 2: _Byte(kind)})]
    return table


def _encoded(table: _Table) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, table), file_identifier=b"M001")
    return bytes(builder.Output())


def _write(builder: Any, value: Any) -> int:
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list):
        return _write_list(builder, value)
    offsets = {slot: _write(builder, item) for slot, item in value.items() if not isinstance(item, _Byte)}
    builder.StartObject(max(value, default=-1) + 1)
    for slot, item in value.items():
        if isinstance(item, _Byte):
            builder.PrependUint8Slot(slot, item.value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
    return builder.EndObject()


def _write_list(builder: Any, values: list[Any]) -> int:
    add = {float: builder.PrependFloat32, int: builder.PrependUint32}.get(
        type(values[0]), builder.PrependUOffsetTRelative
    )
    items = values if isinstance(values[0], (float, int)) else [_write(builder, value) for value in values]
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        add(item)
    return builder.EndVector()
