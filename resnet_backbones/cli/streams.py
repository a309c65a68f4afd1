"""What a command lets through to the terminal: its own words and errors, not the greetings of native libraries."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
from collections.abc import Iterator

# Lines below an error of LiteRT, absl and TensorFlow, as "INFO: Created TensorFlow Lite XNNPACK delegate for
# CPU.", "I0000 00:00:17 cudart_stub.cc:31] ..." and "2026-01-01 00:00:00.1: I tensorflow/...".
_GREETING = re.compile(
    rb"INFO: |WARNING: All log messages before absl::|[IW]\d{4} [\d:. ]+\d+ \S+\.cc:\d+\]"
    rb"|\d{4}-\d\d-\d\d [\d:.]+: [IW] "
)


def make_printable() -> None:
    """Prints to a stream that is closed go nowhere; what a terminal of ASCII alone cannot show is escaped."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by who started this
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115  it stays open
        getattr(sys, stream).reconfigure(errors="backslashreplace")


class CannotPrintError(Exception):
    """Standard output is closed or full. Not an ``OSError``: a command does not report it as one of its files'."""


class _Output(io.TextIOWrapper):
    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise CannotPrintError from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise CannotPrintError from error


@contextlib.contextmanager
def own_output() -> Iterator[None]:
    """Keep standard output for the command: what native code, child processes and ``atexit`` print goes to stderr.

    Raises:
        CannotPrintError: what was printed could not be written.
    """
    own = sys.stdout
    try:
        outside = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # closed by who started this
        yield
        return
    binary = os.fdopen(outside, "wb")
    sys.stdout = _Output(binary, own.encoding, own.errors, line_buffering=bool(own.line_buffering))
    try:
        yield
    finally:
        stream, sys.stdout = sys.stdout, own
        try:
            stream.close()
        except OSError as error:
            raise CannotPrintError from error


@contextlib.contextmanager
def without_greetings() -> Iterator[None]:
    """Drops what native libraries write to standard error below an error; what Python prints to ``sys.stderr`` passes.

    LiteRT has no setting for it. Lines pass as they end, the last one when this ends.
    """
    try:
        outside = os.dup(2)
    except OSError:  # closed by who started this
        yield
        return
    own = sys.stderr
    reading, writing = os.pipe()
    sys.stderr = open(os.dup(outside), "w", encoding=own.encoding, errors=own.errors, buffering=1)  # noqa: SIM115
    os.dup2(writing, 2)
    os.close(writing)
    passing = threading.Thread(target=_pass_on, args=(reading, outside), daemon=True)
    passing.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = own
        os.dup2(outside, 2)  # closes the pipe, so that the thread ends, unless a child process still holds it
        passing.join(timeout=1)


def _pass_on(reading: int, outside: int) -> None:
    with open(reading, "rb") as lines:
        for line in lines:
            if not _GREETING.match(line):
                with contextlib.suppress(OSError):  # nobody reads it
                    os.write(outside, line)
