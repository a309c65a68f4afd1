"""Backups on disk: folders of numbers and text, each whole or not there.

A backup is a folder, ``backup-00000007``, with two files: ``variables.npz`` (arrays, no pickles) and ``state.json``,
which describes them and holds a checksum of both. It is written as ``.writing-...``, flushed to the disk, renamed, and
only then are older ones removed, renamed first: whenever a process dies, every folder of that name is whole. Folders of
such a name with anything else in them are somebody's, and stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones._util.gate import UnreadableFileError, regular_file
from resnet_backbones.weights.readers import Array, npz

_FORMAT = 1
_NAME = re.compile(r"backup-(\d{8,})")
_WRITING = ".writing-"
_STATE, _VARIABLES = "state.json", "variables.npz"

Arrays = dict[str, list[np.ndarray]]


def write_backup(directory: Path, state: dict[str, Any], arrays: Arrays) -> Path:
    """Writes a backup and, once it is in its place, removes older ones.

    Args:
        directory: holds the backups; made if there is none.
        state: plain values.
        arrays: group -> arrays.

    Returns:
        The folder written.

    Raises:
        OSError: the directory cannot be made or written to; an older backup is then still there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_WRITING, dir=directory))
    except OSError as error:
        raise OSError(
            f"Cannot write a backup to {directory.absolute()}: {error.strerror or error}. Choose a directory that can "
            "be made and written to."
        ) from error
    try:
        flat: dict[str, Any] = {
            f"{group}/{i}": _plain(array) for group, found in arrays.items() for i, array in enumerate(found)
        }
        with open(temporary / _VARIABLES, "wb") as file:
            np.savez(file, **flat)
            _to_disk(file)
        text = json.dumps(state, sort_keys=True, allow_nan=False)
        checksum = _checksum(text, temporary / _VARIABLES)
        with open(temporary / _STATE, "w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "checksum": checksum, "state": text}, file)
            _to_disk(file)
        _folder_to_disk(temporary)
        taken = map(_number, directory.glob("backup-*"))  # whoever made them
        folder = directory / f"backup-{max(taken, default=0) + 1:08d}"
        temporary.rename(folder)
        _folder_to_disk(directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    remove_leftovers(directory)
    return folder


def newest_backup(directory: Path) -> Path | None:
    """The newest backup of a directory; ``None`` when it has none."""
    return next(reversed(_backups(directory)), None)


def remove_leftovers(directory: Path) -> None:
    """Removes what a killed process left behind: half-written folders, and backups older than the newest."""
    for folder in _backups(directory)[:-1]:
        folder.rename(folder.with_name(f"{_WRITING}{folder.name}"))
    for folder in directory.glob(f"{_WRITING}*"):
        if _is_ours(folder):
            shutil.rmtree(folder)


def remove_backups(directory: Path) -> None:
    """Removes all backups, and the directory if nothing else is in it."""
    remove_leftovers(directory)
    for folder in _backups(directory):
        folder.rename(folder.with_name(f"{_WRITING}{folder.name}"))
    remove_leftovers(directory)
    with contextlib.suppress(OSError):  # not empty; or a link, a mount point, the folder this process works in
        directory.rmdir()


def read_state(folder: Path) -> dict[str, Any]:
    """What a backup says of itself.

    Raises:
        ValueError: it is damaged, or of another version of this library.
    """
    return json.loads(_read(folder)["state"])


def read_arrays(folder: Path) -> Arrays:
    """The arrays of a backup, checked against its checksum and its state's ``variables``.

    Raises:
        ValueError: it is damaged.
    """
    head = _read(folder)
    try:
        if _checksum(head["state"], folder / _VARIABLES) != head["checksum"]:
            raise _damaged(folder, "its checksum does not match its contents")
        expected = json.loads(head["state"])["variables"]
        with npz(folder / _VARIABLES) as file:
            return {
                group: [_restored(file[f"{group}/{i}"], shape, dtype) for i, (_, shape, dtype) in enumerate(found)]
                for group, found in expected.items()
            }
    except (OSError, KeyError, TypeError, UnreadableFileError) as error:
        raise _damaged(folder, error) from error


def what_to_do(directory: Path) -> str:
    """How to go on from a backup that cannot be used."""
    return (
        "Nothing was changed. To start from the beginning, delete the folders backup-* in "
        f"{directory.absolute()} or give TrainingBackup another directory."
    )


def _read(folder: Path) -> dict[str, Any]:
    try:
        regular_file(folder / _VARIABLES)
        head = json.loads(regular_file(folder / _STATE).read_text(encoding="utf-8"))
        version = head["format"]
        _ = head["state"], head["checksum"], json.loads(head["state"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, error) from error
    if version != _FORMAT:
        raise ValueError(
            f"The backup {folder.absolute()} has format {version}; this version of the library reads format {_FORMAT}. "
            + what_to_do(folder.parent)
        )
    return head


def _damaged(folder: Path, why: object) -> ValueError:
    return ValueError(
        f"The backup {folder.absolute()} is damaged ({why}). {what_to_do(folder.parent)} To go on from it, put an "
        "undamaged copy in its place."
    )


def _backups(directory: Path) -> list[Path]:
    """Oldest first."""
    return sorted(
        (folder for folder in directory.glob("backup-*") if _number(folder) and _is_ours(folder)), key=_number
    )


def _number(folder: Path) -> int:
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else 0


def _is_ours(folder: Path) -> bool:
    """Whether it holds nothing but what a backup holds: a user may have a ``backup-20260131`` there."""
    whole = folder.is_dir() and not folder.is_symlink()
    return whole and {entry.name for entry in folder.iterdir()} <= {_STATE, _VARIABLES}


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a type that numpy's files know; bfloat16 and its kin as bytes."""
    return array if array.dtype.isbuiltin == 1 else np.atleast_1d(array).view(np.uint8)


def _restored(array: Array, shape: list[int], dtype: str) -> np.ndarray:
    """The array, read only if its header says what the backup's state says of it."""
    bytes_there = math.prod(array.shape) * np.dtype(array.dtype).itemsize
    if bytes_there != math.prod(shape) * np.dtype(dtype).itemsize:
        raise TypeError(f"an array of {array.shape} {array.dtype} stands for one of {shape} {dtype}")
    return array.read().view(np.dtype(dtype)).reshape(shape)


def _checksum(text: str, variables: Path) -> str:
    digest = hashlib.sha256(text.encode())
    with open(variables, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _folder_to_disk(folder: Path) -> None:
    """Makes a rename last through a power cut, where folders can be opened (not on Windows)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
