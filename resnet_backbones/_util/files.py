"""Files and folders that are written atomically, and that never replace what this library did not write.

Everything is written into a private folder beside its target and renamed into place at the end. A process that is
killed leaves that folder behind; the next write to the same place removes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# All that a SavedModel may hold: with anything else in it, a folder is somebody's.
_SAVED_MODEL = re.compile(
    r"saved_model\.pb(txt)?|fingerprint\.pb|keras_metadata\.pb|variables(/variables\.[^/]+)?|assets(/.+)?"
    r"|assets\.extra(/resnet_backbones\.json)?"
)
_ABANDONED = 24 * 3600  # seconds; where folders cannot be locked, one this old is taken for left behind


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames it to ``path`` at the end.

    Whether ``path`` can be written is known before any work is done. Whatever goes wrong inside, it stays as it was and
    nothing is left behind. A symbolic link is followed; a file that is replaced keeps its permissions.

    Args:
        path: where the file shall be. A regular file there is replaced; anything else is not.

    Raises:
        OSError: the folder does not exist or cannot be written to, or ``path`` is a folder, a device or a pipe.

    Example:
        >>> with written_whole("model.bin") as temporary:
        ...     temporary.write_bytes(data)
    """
    with _explained(path, "file"):
        target = _file_target(path)
    with _workplace(path, target, "file") as folder:
        temporary = folder / target.name[-32:].lower()  # Keras and numpy ask for suffixes in lower case
        temporary.touch()
        usual = temporary.stat().st_mode
        yield temporary
        with _explained(path, "file"):
            temporary.chmod(stat.S_IMODE(usual))  # some libraries make private files
            if target.exists():
                _keep_permissions(target, temporary)
            temporary.replace(target)


@contextlib.contextmanager
def folder_written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary folder to write into, and renames it to ``path`` at the end.

    Whatever goes wrong inside, ``path`` stays as it was. A symbolic link is followed; permissions are kept.

    Args:
        path: where the folder shall be. A folder there is replaced if it is empty or holds a SavedModel and nothing
            else.

    Raises:
        OSError: ``path`` is a file or a folder with other contents, or the folder around it does not exist or cannot
            be written to.
    """
    with _explained(path, "folder"):
        target = _folder_target(path)
    with _workplace(path, target, "folder") as folder:
        temporary = folder / target.name
        temporary.mkdir()
        yield temporary
        with _explained(path, "folder"):
            _folder_target(path)  # minutes later, somebody may have put something there
            if target.exists():
                _keep_permissions(target, temporary)
                _exchange(temporary, target)
            else:
                temporary.rename(target)


def check_writable(path: str | os.PathLike[str], *, folder: bool = False) -> None:
    """Raises what writing to ``path`` would raise, before any work is done; leaves nothing there.

    Args:
        path: where a file, or a folder, shall be.
        folder: whether it shall be a folder.

    Raises:
        OSError: see :func:`written_whole` and :func:`folder_written_whole`.
    """
    kind = "folder" if folder else "file"
    with _explained(path, kind):
        target = _folder_target(path) if folder else _file_target(path)
    with _workplace(path, target, kind):
        pass


def check_not_read(path: str | os.PathLike[str], *read: str | os.PathLike[str] | None) -> None:
    """Raises ``ValueError`` where writing to ``path`` would replace a file that is read."""
    for source in read:
        with contextlib.suppress(OSError):  # one of them is not there: they are not the same
            if source is not None and os.path.samefile(path, source):
                raise ValueError(f"{path} would be read and replaced: choose another path to write to.")


def beside(path: Path, ending: str) -> Path:
    """``path`` with ``ending`` added to its name, shortened where the file system takes no name that long."""
    most = os.pathconf(path.parent, "PC_NAME_MAX") if hasattr(os, "pathconf") and path.parent.is_dir() else 255
    name = path.name + ending
    if len(os.fsencode(name)) > most:
        ending = f"-{_digest(path.name)}{ending}"
        name = os.fsencode(path.name)[: most - len(ending)].decode(errors="ignore") + ending
    return path.with_name(name)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )


def _file_target(path: str | os.PathLike[str]) -> Path:
    """The file that ``path`` leads to; raises ``OSError`` unless it is a regular file or not there."""
    target = _resolved(path)
    with contextlib.suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path} is a folder")
        if not stat.S_ISREG(mode):
            raise FileExistsError(f"{path} is a device or a pipe")
        if not os.access(target, os.W_OK):
            raise PermissionError(f"{path} is write-protected")
    return target


def _folder_target(path: str | os.PathLike[str]) -> Path:
    """The folder that ``path`` leads to; raises ``OSError`` unless an export may take its place."""
    target = _resolved(path)
    if not target.exists():
        return target
    if not target.is_dir():
        raise NotADirectoryError(f"{path} is a file")
    if Path.cwd().is_relative_to(target):
        raise FileExistsError(f"{path} is the folder this process works in")
    found = {entry.relative_to(target).as_posix() for entry in target.iterdir()}
    inside = (entry.relative_to(target).as_posix() for entry in target.rglob("*"))
    other = next((name for name in inside if not _SAVED_MODEL.fullmatch(name)), None)
    if other is None and found and not found & {"saved_model.pb", "saved_model.pbtxt"}:
        other = min(found)
    if other is not None:
        raise FileExistsError(
            f"the folder holds {other!r}, which is no part of a SavedModel; only an empty folder, or one that holds a "
            "SavedModel and nothing else, is replaced"
        )
    return target


def _resolved(path: str | os.PathLike[str]) -> Path:
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(f"{path} is a symbolic link that leads back to itself")
    if not target.parent.is_dir():
        raise NotADirectoryError(f"there is no folder {target.parent}")
    return target


@contextlib.contextmanager
def _workplace(path: str | os.PathLike[str], target: Path, kind: str) -> Iterator[Path]:
    """A private folder beside ``target``, in which files may have any name; removes those that were left behind."""
    prefix = f".resnet_backbones-{_digest(target.name)}-"
    with contextlib.suppress(PermissionError):  # a folder that one may write to and not list
        for folder in target.parent.iterdir():
            if folder.name.startswith(prefix) and not folder.is_symlink() and folder.is_dir():
                _remove_if_left_behind(folder)
    with _explained(path, kind):
        while True:
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
            lock = _lock(folder, wait=True)
            if folder.exists():
                break
            _unlock(lock)  # another writer took it for left behind, before it was locked
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def _remove_if_left_behind(folder: Path) -> None:
    """Removes a workplace whose process is gone: its lock went with it."""
    try:
        lock = _lock(folder, wait=False)
    except BlockingIOError:
        return
    with contextlib.suppress(FileNotFoundError):
        if lock is not None or time.time() - folder.stat().st_mtime > _ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)
    _unlock(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """A handle that locks ``folder`` while it is open; ``None`` where folders cannot be locked."""
    if fcntl is None:
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:  # some network file systems
        os.close(handle)
        return None
    return handle


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _keep_permissions(old: Path, new: Path) -> None:
    """Owner, where that is allowed, and mode of ``old`` for ``new``."""
    about = old.stat()
    if os.name == "posix" and (about.st_uid, about.st_gid) != (new.stat().st_uid, new.stat().st_gid):
        with contextlib.suppress(PermissionError):
            os.chown(new, about.st_uid, about.st_gid)
    new.chmod(stat.S_IMODE(about.st_mode))


def _exchange(one: Path, other: Path) -> None:
    """Two folders take each other's names: in one step on Linux, so that neither name is ever missing."""
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), both) == 0:
        return
    aside = one.with_name(
        "new" if one.name == "old" else "old"
    )  # a system without it: for a moment the old folder has this name
    other.rename(aside)
    one.rename(other)


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:12]


@contextlib.contextmanager
def _explained(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Says of an ``OSError`` what cannot be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"Cannot write {os.fspath(path)}: {error.strerror or error}. The folder {Path(path).parent.absolute()} "
            f"must exist and be writable, and the path must name a {kind} that may be replaced, or nothing yet; "
            "choose another path."
        ) from error
