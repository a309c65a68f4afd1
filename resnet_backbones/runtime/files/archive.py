"""Metadata in a ``.tflite``: a ZIP archive appended to the flatbuffer, TFLite's own convention."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from typing import IO

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
