"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` to write to, and renames it into place at the end.

    The temporary file is made at once, so a folder that cannot be written to is known before any work is done;
    whatever goes wrong inside, ``path`` stays as it was and nothing is left behind.

    Args:
        path: where the file shall be.

    Raises:
        OSError: the folder does not exist or cannot be written to.

    Example:
        >>> with written_whole("model.bin") as temporary:
        ...     temporary.write_bytes(data)
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        suffix = "".join(path.suffixes[-2:])  # both of "mine.weights.h5": Keras asks for them
        stem = path.name.removesuffix(suffix)
        handle, name = tempfile.mkstemp(prefix=f".{stem}-", suffix=suffix, dir=path.parent)
    except OSError as error:
        raise _cannot_write(path, error, "file") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)  # mkstemp makes private files; give this one the permissions of an ordinary new file
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary folder beside ``path`` to write into, and renames it into place at the end.

    A folder that is there already is replaced as a whole. Whatever goes wrong inside, it stays as it was.

    Args:
        path: where the folder shall be.

    Raises:
        OSError: ``path`` is a file, or the folder around it does not exist or cannot be written to.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"{path} is a file")
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise _cannot_write(path, error, "folder") from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if path.exists():
            _exchange(temporary, path)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )


def _exchange(one: Path, other: Path) -> None:
    """Two folders take each other's names: in one step on Linux, so that neither name is ever missing."""
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), both) == 0:
        return
    aside = one.with_name(f"{one.name}-old")  # a system without it: for a moment the old folder has this name
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def _cannot_write(path: Path, error: OSError, kind: str) -> OSError:
    return OSError(
        f"Cannot write {path}: {error.strerror or error}. The folder {path.parent.absolute()} must exist and be "
        f"writable, and the path must name a {kind}; create the folder or choose another path."
    )
