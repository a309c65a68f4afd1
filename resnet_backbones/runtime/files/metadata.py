"""The JSON that travels inside an exported file and says how to feed it and read it.

A ``.tflite`` holds it in a ZIP archive appended to the flatbuffer: interpreters ignore what follows the flatbuffer,
and ``unzip -p model.tflite resnet_backbones.json`` prints it. An ``.onnx`` holds it in the model's ``metadata_props``
under ``resnet_backbones``, where any ONNX tool shows it. It reads::

    {"format": "resnet_backbones", "version": 1,
     "sha256": "...",                                                   # of the file without its metadata
     "task": {"name": "retinanet", ...},                                # what the adapter says about the task
     "input": {"shape": [1, H, W, C], "layout": "NHWC", "scale": 1.0, "offset": 0.0},
     "outputs": [{"name": "box", "parts": ["box_0", "box_1"], "axis": 1}],
     "class_names": ["zero", "one"]}                                    # or null

``shape`` is the Keras model's, whatever the file's ``layout`` (``"NHWC"`` where left out, or ``"NCHW"``); a batch of
``null`` is any number of images. ``resize``, ``"stretch"`` or ``"letterbox"`` where it is known, says how images of
other sizes were brought to that size in training. A file that resizes images itself says in ``network_size`` [H, W]
what to. The graph's input is image * ``scale`` + ``offset``, which are numbers or one number per channel; the image is
in the Keras model's own units. An output's ``parts`` are outputs of the file (of its signature, where it has one),
dequantized, then concatenated along ``axis``. A part can be joined of outputs itself: ``{"parts": [...], "axis": 2}``.

``load`` compares the hash before anything else reads the file, so a damaged file is an error that says so.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
from pathlib import Path
from typing import Any

from resnet_backbones.runtime.files import onnx, tflite
from resnet_backbones.runtime.files.schema import check_metadata

FORMAT = "resnet_backbones"
VERSION = 1

_REQUIRED = ("task", "input", "outputs")
_KINDS = {"litert": tflite, "onnx": onnx}
_HASH = re.compile(r"[0-9a-f]{64}")


def append_metadata(data: bytes, metadata: dict[str, Any], format: str = "litert") -> bytes:
    """Adds ``metadata`` to a file's content; metadata already there is replaced.

    The same input gives the same bytes (nothing is dated).

    Args:
        data: a whole ``.tflite`` or ``.onnx``. Other files in the archive of a ``.tflite``, and other properties of an
            ``.onnx``, are kept.
        metadata: see this module; ``format`` and ``version`` are filled in when left out, ``sha256`` always.
        format: ``"litert"`` or ``"onnx"``.

    Returns:
        The bytes of the file with its metadata.

    Raises:
        ValueError: ``metadata`` lacks a key, has a value that is not allowed or that JSON cannot hold; ``data`` is no
            ONNX model; an unknown format.

    Example:
        >>> data = append_metadata(flatbuffer, {"task": {"name": "tensors"}, "input": {}, "outputs": []})
        >>> Path("model.tflite").write_bytes(data)
    """
    if format not in _KINDS:
        raise ValueError(f"Unknown format {format!r}; metadata is written into {' and '.join(_KINDS)} files.")
    kind = _KINDS[format]
    metadata = {"format": FORMAT, "version": VERSION, **metadata}
    try:
        metadata["sha256"] = hashlib.sha256(kind.content_of(data)).hexdigest()
    except ValueError as error:
        raise ValueError(f"Cannot add metadata to this {format} file: {error}.") from error
    try:
        text = json.dumps(metadata, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must hold plain JSON values (numbers, strings, lists, dicts): {error}.") from error
    _check(json.loads(text), "metadata")
    return kind.write(data, text.encode())


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Reads the metadata of a ``.tflite`` or ``.onnx``.

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
    return _read(Path(path))[0]


def read_verified(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Reads the metadata and proves that the rest of the file is what was written with it.

    A file without a recorded hash, from elsewhere or of an older version, is taken as it is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as :func:`read_metadata`; or the file's content is another than the one recorded.
    """
    metadata, parts = _read(Path(path))
    if metadata is None or metadata.get("sha256") is None:
        return metadata
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    if digest.hexdigest() != metadata["sha256"]:
        raise ValueError(
            f"{path} is damaged: its content is not what was written (SHA-256 {digest.hexdigest()[:12]}..., recorded "
            f"{metadata['sha256'][:12]}...). Copy or export it again. If another tool changed it on purpose, write its "
            "metadata again with resnet_backbones.runtime.append_metadata."
        )
    return metadata


def _read(path: Path) -> tuple[dict[str, Any] | None, list[memoryview]]:
    """The metadata, and the file's content without it, in pieces."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; a .tflite or .onnx file is needed.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    size = path.stat().st_size
    if not path.is_file() or size == 0:
        raise ValueError(f"{path} is empty: cut short, or no file of a model. Copy or export it again.")
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        try:
            if path.suffix == ".onnx":
                text, parts = onnx.read(view)
            else:
                text, end = tflite.read(file, size)
                parts = [view[:end]]
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {error}. Copy or export it again.") from error
    return (None if text is None else _parse(text, path)), parts


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The metadata of {path} is damaged ({error}). Copy or export it again.") from error
    _check(metadata, f"The metadata of {path}")
    return metadata


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _check(metadata: Any, what: str) -> None:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError(f"{what} is not of this library: its 'format' must be {FORMAT!r}.")
    version = metadata.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
        raise ValueError(
            f"{what} is of version {version}, this library reads up to {VERSION}: upgrade resnet-backbones, "
            "or export the model again with this version."
        )
    missing = [key for key in _REQUIRED if key not in metadata]
    if missing:
        raise ValueError(f"{what} lacks {missing}; it must hold {list(_REQUIRED)}.")
    recorded = metadata.get("sha256")
    if recorded is not None and not (isinstance(recorded, str) and _HASH.fullmatch(recorded)):
        raise ValueError(f"{what} is damaged: its 'sha256' is no hash. Copy or export the file again.")
    check_metadata(metadata)
