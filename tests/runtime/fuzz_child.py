"""Runs one function in a forked process that may use little memory and time, and must write nothing."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEMORY = 2 << 30  # bytes beyond what the process has when it forks
CPU_SECONDS = 20
WALL_SECONDS = 60
#: What ``load`` and ``predict`` say they raise.
DOCUMENTED = (ValueError, RuntimeError, MemoryError, FileNotFoundError)

_TOUCHING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
_LEAVING = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        kind: ``"result"``, ``"error"``, ``"undocumented error"``, ``"crash"``, ``"timeout"`` or ``"write"``.
        detail: the error, or the signal and where it struck.
        seconds: it took.
    """

    kind: str
    detail: str
    seconds: float


def run_in_child(work: Callable[[], Any], folder: Path) -> Outcome:
    """Runs ``work`` in a fork, its current folder ``folder``.

    Args:
        work: what to run.
        folder: all files in it must be there unchanged afterwards.
    """
    before = _contents(folder)
    started = time.monotonic()
    answer, answering = os.pipe()
    errors, erring = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answer)
        os.close(errors)
        _be_the_child(work, folder, answering, erring)
    os.close(answering)
    os.close(erring)
    texts, in_time = _read_all([answer, errors], started + WALL_SECONDS)
    if not in_time:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - started
    kind, detail = _outcome(status, *texts, in_time)
    if _contents(folder) != before:
        kind, detail = "write", "a file of its folder was changed"
    return Outcome(kind, detail, seconds)


def _be_the_child(work: Callable[[], Any], folder: Path, answering: int, erring: int) -> None:
    """Runs the work and leaves the process; never returns."""
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(erring, 2)
    faulthandler.enable(file=2)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # a byte written to any file ends the process
    touched: list[str] = []
    sys.addaudithook(lambda event, args: touched.append(f"{event} {args!r:.80}") if _writes(event, args) else None)
    try:
        work()
        found = {"kind": "result", "detail": ""}
    except DOCUMENTED as error:
        found = {"kind": "error", "detail": f"{type(error).__name__}: {error}"[:400]}
    except BaseException as error:
        found = {"kind": "undocumented error", "detail": f"{type(error).__name__}: {error}"[:400]}
    if touched:
        found = {"kind": "write", "detail": touched[0]}
    os.write(answering, json.dumps(found).encode())
    os._exit(0)


def _writes(event: str, args: tuple) -> bool:
    """Whether an event of Python's audit hooks changes a file, or starts or reaches something outside."""
    if event == "open":
        mode, flags = args[1], args[2]
        writing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return bool(writing) or (isinstance(mode, str) and bool(set(mode) & set("wax+")))
    return event in _TOUCHING or event in _LEAVING


def _read_all(pipes: list[int], deadline: float) -> tuple[list[str], bool]:
    """What comes from pipes until all are closed, and whether they were in time."""
    texts, left = dict.fromkeys(pipes, b""), list(pipes)
    while left:
        ready, _, _ = select.select(left, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        for pipe in ready:
            piece = os.read(pipe, 1 << 16)
            texts[pipe] = (texts[pipe] + piece)[-(1 << 16) :]
            if not piece:
                left.remove(pipe)
    for pipe in pipes:
        os.close(pipe)
    return [text.decode(errors="replace") for text in texts.values()], not left


def _outcome(status: int, answer: str, errors: str, in_time: bool) -> tuple[str, str]:
    if not in_time:
        return "timeout", f"{WALL_SECONDS} s"
    if os.WIFSIGNALED(status):
        ended = signal.Signals(os.WTERMSIG(status))
        if ended == signal.SIGXFSZ:
            return "write", "a byte was written to a file"
        if ended in (signal.SIGXCPU, signal.SIGKILL):
            return "timeout", f"{CPU_SECONDS} s of CPU"
        frames = [line.strip() for line in errors.splitlines() if line.strip().startswith("File")]
        return "crash", f"{ended.name} at {frames[0] if frames else 'an unknown place'}"
    if not answer:
        return "crash", f"left with status {os.WEXITSTATUS(status)}"
    found = json.loads(answer)
    return found["kind"], found["detail"]


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}
