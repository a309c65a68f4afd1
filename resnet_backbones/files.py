"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
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
        raise OSError(
            f"Cannot write {path}: {error.strerror or error}. The folder {path.parent.absolute()} must exist and be "
            "writable, and the path must name a file; create the folder or choose another path."
        ) from error
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
