"""The gate that every file from elsewhere passes before this library, or Keras for it, reads a value.

A weights file is read alone: no path inside it is followed, and it may not claim to hold more than a file of its size
can. What is checked here are the headers, so that nothing large is read for a file that is refused afterwards.
"""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

# A file may unfold to so many times its size, and to this much in any case. Compressed weights take about 0.9 of their
# size; the zeros of an optimizer that has not trained yet, at most three quarters of a file, nearly nothing.
_EXPANSION, _ALLOWANCE = 100, 1 << 26
# Where Keras' own layers keep a path they would read: a SavedModel, a vocabulary, its weights.
_PATHS = ("filepath", "vocabulary", "idf_weights")
_STAND_INS = {
    **dict.fromkeys((b"<!doctype html", b"<html", b"<head", b"<!--"), "an HTML page"),
    b"<?xml": "an XML page",
    b"version https://git-lfs": "a pointer of Git LFS",
}
_CONFIG, _VARIABLES = "config.json", "model.weights.h5"


class UnreadableFileError(ValueError):
    """A file is damaged, forged, or of another kind than its suffix says."""


def unreadable(path: Any, kind: str, error: object) -> UnreadableFileError:
    """The error for such a file, as what ``kind`` names it cannot be read."""
    if isinstance(error, UnreadableFileError):
        return error
    return UnreadableFileError(
        f"{str(path)!r} cannot be read as a {kind}: {error}. A file cut short or damaged on its way must be copied or "
        "saved again."
    )


def regular_file(path: Path) -> Path:
    """``path`` itself; a pipe would hang whoever opens it, a device never ends, and a web page holds no weights.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is no ordinary file, or a page or pointer that a server gave in place of one.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise ValueError(
            f"{str(path)!r} is {kinds.get(stat.S_IFMT(mode), 'a device')}, and weights are read from ordinary files."
        )
    if text := stands_in(path):
        raise UnreadableFileError(f"{str(path)!r} is {text}, not weights: get the file itself.")
    return path


def stands_in(path: Path) -> str | None:
    """What a file is that servers send in place of the one asked for; ``None`` if it is no such thing."""
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((text for begins, text in _STAND_INS.items() if start.startswith(begins)), None)


def open_zip(path: Path, kind: str) -> zipfile.ZipFile:
    """A ZIP archive whose members have plain names of their own and unfold to what such a file may hold.

    Args:
        path: the file.
        kind: what it should be, for errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such archive.
    """
    regular_file(path)
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile's own, and those of what it calls
        raise unreadable(path, kind, error) from error
    members = archive.infolist()
    names = [member.filename for member in members]
    problem = None
    if len(set(names)) < len(names):
        problem = "two of its members have one name"
    elif outside := [name for name in names if name.startswith("/") or ".." in PurePosixPath(name).parts]:
        problem = f"its member {outside[0]!r} names a place outside it"
    elif any(member.flag_bits & 1 for member in members):
        problem = "it is encrypted"
    if problem:
        archive.close()
        raise unreadable(path, kind, problem)
    return archive


def check_claim(path: Path, kind: str, claimed: int) -> None:
    """Raises ``ValueError`` if so many bytes are more than a file like ``path`` can hold."""
    if claimed > _EXPANSION * path.stat().st_size + _ALLOWANCE:
        raise unreadable(path, kind, f"it has {path.stat().st_size:,} bytes and claims to hold {claimed:,}")


def open_hdf5(path: Path, content: Any = None) -> tuple[Any, dict[str, Any]]:
    """An HDF5 file and its data sets by name, none of which leads out of the file.

    Args:
        path: the file, or the archive that holds it.
        content: the file's bytes as a stream, if it lies in an archive.

    Returns:
        ``(file, {name: data set})``; the caller closes the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or refers to something outside it.
    """
    import h5py

    file = None
    try:
        file = h5py.File(regular_file(path) if content is None else content, "r")
        return file, dict(sorted(_datasets(file)))
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever h5py raises of a file that is none
        if file is not None:
            file.close()
        raise unreadable(path, "weights file", error) from error


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    """Every data set, each object visited once. Types and links are looked at before anything is opened."""
    import h5py

    groups, seen = [("", file)], set()
    while groups:
        prefix, group = groups.pop()
        for name in group:
            path = f"{prefix}{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                where = "another file" if isinstance(link, h5py.ExternalLink) else "another place"
                raise ValueError(f"its {path!r} is a link to {where}, and no path inside a file is followed")
            found = h5py.h5o.get_info(group.id, name.encode())
            if found.addr in seen:
                continue
            seen.add(found.addr)
            if found.type == h5py.h5o.TYPE_GROUP:
                groups.append((f"{path}/", group[name]))
            elif found.type == h5py.h5o.TYPE_DATASET:
                item = group[name]
                plan = item.id.get_create_plist()  # before its shape, for which HDF5 may look into other files
                if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
                    raise ValueError(
                        f"its {path!r} keeps its values in another file, and no path inside a file is followed"
                    )
                if item.shape is None:
                    raise ValueError(f"its {path!r} has no shape")
                yield path, item


def check_keras_file(path: Path, *, trusted: bool = False) -> str:
    """The configuration in a ``.keras`` file, after all that Keras would read of the file has been checked.

    Args:
        path: the file.
        trusted: whether layers may read the files that the configuration names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a complete ``.keras`` file, or leads out of it.
    """
    kind, damaged = "Keras model", "Keras model (it is not a whole .keras file)"
    with open_zip(path, damaged) as archive:
        check_claim(path, kind, sum(member.file_size for member in archive.infolist()))
        try:
            text = archive.read(_CONFIG).decode()
            config = json.loads(text)
            content = io.BytesIO(archive.read(_VARIABLES))  # whole: only so is its checksum looked at
        except Exception as error:  # damage wherever it lies
            raise unreadable(path, damaged, error) from error
    file, datasets = open_hdf5(path, content)
    with file:
        check_claim(path, kind, sum(item.size * item.dtype.itemsize for item in datasets.values()))
    if not trusted and (named := next(_named_files(config), None)):
        raise unreadable(
            path,
            kind,
            f"a layer would read the file {named!r}, and no path inside a file is followed (safe_mode=False)",
        )
    return text


def _named_files(config: Any) -> Iterator[str]:
    """The paths in a configuration that Keras' layers would read."""
    todo = [config]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            yield from (value for key, value in item.items() if key in _PATHS and isinstance(value, str))
            todo += item.values()
        elif isinstance(item, list):
            todo += item
