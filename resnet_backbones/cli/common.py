"""What the commands share: where they print, how they fail, what they take."""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from resnet_backbones._util.files import check_writable
from resnet_backbones._util.text import escape, json_text
from resnet_backbones.errors import needed

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
#: Arguments of the library and the options of the commands that stand for them.
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in (
    "backend", "batch", "calibration_data", "channels", "class_names", "confidence", "format", "input_shape", "latency",
    "layers", "layout", "limit", "parity_data", "pixel_range", "postprocessing", "precision", "prefix", "preprocessing",
    "resize", "scheme", "skip_mismatch", "target", "threads",
)} | {"num_threads": "--threads", "settings": "--set", "source": "--from", "top_k": "--top"}  # fmt: skip
# A call in Python, which stays; or a name and what is given for it. Alone, a name that is no word of English.
_ARGUMENTS = re.compile(
    r"[\w.]+\((?:[^()]|\([^()]*\))*\)"
    rf"|(?<![\w.-])(?:(?P<given>{'|'.join(OPTIONS)})=(?:(?P<value>'[^']*'|\"[^\"]*\"|\([\d., ]+\)|\d[\d.]*)|\w+)?"
    rf"|(?P<alone>{'|'.join(name for name in OPTIONS if '_' in name)})\b)"
)
_SPELLINGS = {"list_backbones()": "`resnet-backbones list`", "batch=None": "--batch any"}
# What the library raises for a caller's mistake, or for a machine that cannot do it; each message says what to do.
MISTAKES = (ImportError, OSError, RuntimeError, TypeError, ValueError)


def console(*, error: bool = False) -> Console:
    """Where a command prints: tables to stdout, errors and progress to stderr."""
    # In a pipe there is no width to fit into, and a table cut at 80 columns helps nobody.
    stream = sys.stderr if error else sys.stdout
    return Console(stderr=error, highlight=False, width=None if stream.isatty() else 140)


# Rich's tables in letters that every terminal has; what else one lacks is escaped (``streams.py``).
_LINES = dict.fromkeys(range(0x250C, 0x254C), "+") | {0x2500: "-", 0x2501: "-", 0x2502: "|", 0x2503: "|"}


def say(text: str) -> None:
    """Prints text. ``typer.echo`` would write UTF-8 to a terminal of ASCII."""
    if (getattr(sys.stdout, "encoding", None) or "utf-8").lower() not in ("utf-8", "utf8"):
        text = text.translate(_LINES)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_json(data: Any) -> None:
    """Prints plain values as JSON; NaN and infinity as null."""
    say(json_text(data, indent=2))


def fail(message: str) -> typer.Exit:
    """Prints an error and returns what to raise: exit code 1."""
    console(error=True).print(f"[red]Error:[/red] {escape(with_options(message))}", soft_wrap=True)
    return typer.Exit(1)


def with_options(message: str) -> str:
    """A message of the library in the command's spelling: ``--batch 4`` for ``batch=4``."""
    for python, shell in _SPELLINGS.items():
        message = message.replace(python, shell)
    return _ARGUMENTS.sub(_with_option, message)


def _with_option(found: re.Match[str]) -> str:
    name, value = found["given"] or found["alone"], found["value"] or ""
    return " ".join([OPTIONS[name], *value.strip("'\"()").replace(",", "").split()]) if name else found[0]


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """The library's errors become one line on stderr and exit code 1, without a traceback."""
    try:
        yield
    except typer.Exit:  # a RuntimeError by birth
        raise
    except MISTAKES as error:
        raise fail(" ".join(str(error).split()) or type(error).__name__) from None


def must_be_there(*paths: Path | None) -> None:
    """Says before anything heavy is imported that a file or folder is missing."""
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}.")


def can_be_written(path: Path, *, picture: bool) -> None:
    """Says at once what would otherwise fail after minutes of work.

    Args:
        path: a file that is written at the end.
        picture: whether that draws.

    Raises:
        OSError: its folder does not exist or cannot be written to, or something is there that must not be replaced.
        ImportError: matplotlib is needed and not installed.
    """
    check_writable(path)
    if picture:
        needed("matplotlib", path.name, "matplotlib", "plots")


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Imports TensorFlow and lets it log errors only: what it warns of is this library's to mend, not its user's."""
    importlib.import_module("resnet_backbones.keras_compat")
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def at_work(what: str) -> Iterator[None]:
    """Shows on a terminal what takes so long; elsewhere nothing."""
    with console(error=True).status(what):
        yield
