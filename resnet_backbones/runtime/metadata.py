"""The JSON that travels inside a ``.tflite`` and says how to feed it and read it.

TFLite's own convention for associated files is a ZIP archive appended to the flatbuffer: interpreters ignore
what follows the flatbuffer, and ``unzip -p model.tflite resnet_backbones.json`` prints it. One member holds::

    {"format": "resnet_backbones", "version": 1,
     "task": {"name": "retinanet", ...},                                # what the adapter says about the task
     "input": {"shape": [1, H, W, C], "scale": 1.0, "offset": 0.0},     # graph input = image * scale + offset
     "outputs": [{"name": "box", "parts": ["box_0", "box_1"], "axis": 1}],
     "class_names": ["zero", "one"]}                                    # or null

``scale`` and ``offset`` are numbers or one number a channel; the image is in the Keras model's own units. An
output's ``parts`` are outputs of the file's signature, dequantized, then concatenated along ``axis``.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

FORMAT = "resnet_backbones"
VERSION = 1
MEMBER = "resnet_backbones.json"

_REQUIRED = ("task", "input", "outputs")
_LOCAL_HEADER = re.compile(rb"PK\x03\x04.{26}" + re.escape(MEMBER.encode()), re.DOTALL)
_TAIL = 1 << 20  # an archive cut short is looked for in the last MiB


def append_metadata(tflite_bytes: bytes, metadata: dict[str, Any]) -> bytes:
    """Appends ``metadata`` to a flatbuffer; an archive already there is rewritten, its other files are kept.

    The same input gives the same bytes (the archive carries no time stamp).

    Args:
        tflite_bytes: a whole ``.tflite`` file.
        metadata: see this module; ``format`` and ``version`` are filled in when left out.

    Returns:
        The bytes of the file with its metadata.

    Raises:
        ValueError: ``metadata`` lacks a key, or holds what JSON cannot.

    Example:
        >>> data = append_metadata(flatbuffer, {"task": {"name": "tensors"}, "input": {}, "outputs": []})
        >>> Path("model.tflite").write_bytes(data)
    """
    metadata = {"format": FORMAT, "version": VERSION, **metadata}
    _check(metadata, "metadata")
    try:
        text = json.dumps(metadata, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must hold plain JSON values (numbers, strings, lists, dicts): {error}.") from error

    flatbuffer, others = _split(tflite_bytes)
    file = io.BytesIO()
    file.write(flatbuffer)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*others, (MEMBER, text.encode())]:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # dated 1980: reproducible
    return file.getvalue()


def read_metadata(path: str | os.PathLike) -> dict[str, Any] | None:
    """Reads the metadata of a ``.tflite``.

    Args:
        path: the file.

    Returns:
        The metadata (see this module), or ``None`` for a file without any.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the metadata is damaged, cut short, or of a newer version of this library.

    Example:
        >>> read_metadata("detector.tflite")["task"]["name"]
        'retinanet'
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; a .tflite file is needed.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    if not zipfile.is_zipfile(path):
        if _archive_cut_short(path):
            raise ValueError(f"{path} is cut short: its metadata has no end. Copy or export it again.")
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                return None
            metadata = json.loads(archive.read(MEMBER))
    except (zipfile.BadZipFile, zlib.error, UnicodeDecodeError, json.JSONDecodeError, EOFError) as error:
        raise ValueError(f"The metadata of {path} is damaged ({error}). Copy or export it again.") from error
    _check(metadata, f"The metadata of {path}")
    return metadata


def _check(metadata: Any, what: str) -> None:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError(f"{what} is not of this library: its 'format' must be {FORMAT!r}.")
    version = metadata.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise ValueError(
            f"{what} is of version {version}, this library reads up to {VERSION}: upgrade resnet-backbones, "
            "or export the model again with this version."
        )
    missing = [key for key in _REQUIRED if key not in metadata]
    if missing:
        raise ValueError(f"{what} lacks {missing}; it must hold {list(_REQUIRED)}.")


def _split(tflite_bytes: bytes) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The flatbuffer alone, and the other files of the archive behind it."""
    file = io.BytesIO(tflite_bytes)
    if not zipfile.is_zipfile(file):
        return tflite_bytes, []
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        start = min((entry.header_offset for entry in entries), default=len(tflite_bytes))
        others = [(entry.filename, archive.read(entry)) for entry in entries if entry.filename != MEMBER]
    return tflite_bytes[:start], others


def _archive_cut_short(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read()
    return _LOCAL_HEADER.search(tail) is not None
