"""The library's own errors. Each says what was wrong, what is allowed and what to do."""

from __future__ import annotations

import difflib
import importlib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_OURS = str(Path(__file__).resolve().parent)


class UnknownNameError(ValueError):
    """A backbone, block, level or activation was asked for by a name nobody registered."""


class DuplicateNameError(ValueError):
    """A name is already taken; the message says by whom."""


class WeightsMismatchError(ValueError):
    """Weights do not fit the backbone; the message lists what is missing, unexpected or of another shape."""


class ExportError(ValueError):
    """A converter cannot express a model; the message names the layer, the reason and what to do."""


def raised_here(error: Exception) -> bool:
    """Whether a line of this library raised it, in words of its own."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return last.filename.startswith(_OURS) and (last.line or "").startswith("raise ")


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names in ``known`` that look most like ``name``, best first."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    return [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'a' or 'b'?"``, or an empty string when nothing looks like ``name``."""
    matches = nearest(name, known)
    return f" Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


def missing(what: str, package: str, extra: str, error: ImportError) -> ImportError:
    """The error to raise where an optional package does not import: what needs it, and the line that installs it.

    Args:
        what: needs the package, as the beginning of a sentence.
        package: as its users call it.
        extra: of this library, that brings it.
        error: raised by the import.
    """
    line = f'pip install "resnet-backbones[{extra}]"'
    return ImportError(f"{what} needs {package}, which does not import ({error}): {line}", name=error.name)


def needed(module: str, what: str, package: str, extra: str) -> Any:
    """Import an optional package, or raise the error of :func:`missing`.

    Args:
        module: its name in Python.
        what: needs it, as the beginning of a sentence.
        package: as its users call it.
        extra: of this library, that brings it.

    Returns:
        The module.

    Raises:
        ImportError: it does not import; the message gives the line that installs it.

    Example:
        >>> onnx = needed("onnx", "Checking an ONNX file", "ONNX", "onnx")
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(what, package, extra, error) from error
