"""Which engine runs a file."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

from resnet_backbones.errors import did_you_mean
from resnet_backbones.runtime.engines.base import Program

MOST_THREADS = 1024
_SUFFIXES = {".tflite": "litert", ".onnx": "onnxruntime"}


def _opened(module: str, program: str) -> Callable[[Path, int | None], Program]:
    """What opens a file; the engine is imported when the first one is."""

    def opened(path: Path, num_threads: int | None) -> Program:
        found = importlib.import_module(f"resnet_backbones.runtime.engines.{module}")
        return getattr(found, program)(path, num_threads)

    return opened


#: Backend -> suffixes of the files it runs, and what opens one.
BACKENDS: dict[str, tuple[tuple[str, ...], Callable[[Path, int | None], Program]]] = {
    "litert": ((".tflite",), _opened("litert", "LiteRTProgram")),
    "onnxruntime": ((".onnx",), _opened("onnxruntime", "ONNXRuntimeProgram")),
    "openvino": ((".tflite", ".onnx"), _opened("openvino", "OpenVINOProgram")),
}


def open_program(path: str | os.PathLike[str], backend: str | None, num_threads: int | None) -> Program:
    """Opens a file on a backend.

    Args:
        path: the file.
        backend: ``"litert"``, ``"onnxruntime"`` or ``"openvino"``; ``None`` to go by the suffix.
        num_threads: threads the backend may use; ``None`` leaves the choice to it.

    Raises:
        ImportError: the backend is not installed.
        ValueError: no such backend, one that does not run such files, a number of threads below 1, or a file the
            backend cannot load.
    """
    path = Path(path)
    if num_threads is not None and not 1 <= num_threads <= MOST_THREADS:
        raise ValueError(
            f"num_threads must be from 1 to {MOST_THREADS}, or None for the backend's choice; got {num_threads}."
        )
    backend = choose_backend(path, backend)
    return BACKENDS[backend][1](path, num_threads)


def choose_backend(path: Path, backend: str | None) -> str:
    """The backend asked for, or the one for the file's suffix.

    Raises:
        ValueError: as :func:`open_program`.
    """
    if backend is None:
        if path.suffix not in _SUFFIXES:
            known = ", ".join(f"{suffix} ({name})" for suffix, name in _SUFFIXES.items())
            raise ValueError(f"Cannot tell what runs {path.name!r}; known are {known}. Or give backend=.")
        return _SUFFIXES[path.suffix]
    if backend not in BACKENDS:
        raise ValueError(
            f"backend={backend!r} is not one of {', '.join(map(repr, BACKENDS))}.{did_you_mean(backend, BACKENDS)}"
        )
    suffixes = BACKENDS[backend][0]
    if path.suffix not in suffixes:
        fitting = [name for name, (known, _) in BACKENDS.items() if path.suffix in known]
        raise ValueError(
            f"{backend} runs {' and '.join(suffixes)} files, not {path.name!r}; "
            + (f"use backend={' or '.join(map(repr, fitting))}." if fitting else "no backend runs this kind of file.")
        )
    return backend
