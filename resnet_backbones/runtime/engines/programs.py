"""Programs: exported files as functions of arrays, each on the engine that runs it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from resnet_backbones.runtime.outputs import Output

MOST_THREADS = 1024
_SUFFIXES = {".tflite": "litert", ".onnx": "onnxruntime"}


class Program(Protocol):
    """A file with one input, ready to run; safe to share between threads."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The input's shape as the file has it, batch first; a batch of ``None`` is any number of images."""

    @property
    def output_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes by output name; ``None`` where a size is open."""

    def encoded(self, values: np.ndarray) -> np.ndarray:
        """Float32 in the graph's own units, of any shape, as the type that the input has; quantized where it is."""

    def __call__(self, batch: np.ndarray) -> dict[str, Output]:
        """Runs one batch.

        Args:
            batch: of :attr:`input_shape`, encoded.

        Returns:
            Outputs by name.
        """

    def prepared(self, batch: np.ndarray) -> Callable[[], object]:
        """Feeds a batch and returns a function that runs the engine on it and nothing else, for timing.

        It takes turns with predictions in other threads where the engine runs one batch at a time.

        Args:
            batch: as for calling.
        """


def _litert(path: Path, num_threads: int | None) -> Program:
    from resnet_backbones.runtime.engines.litert import LiteRTProgram

    return LiteRTProgram(path, num_threads)


def _onnxruntime(path: Path, num_threads: int | None) -> Program:
    from resnet_backbones.runtime.engines.onnxruntime import ONNXRuntimeProgram

    return ONNXRuntimeProgram(path, num_threads)


def _openvino(path: Path, num_threads: int | None) -> Program:
    from resnet_backbones.runtime.engines.openvino import OpenVINOProgram

    return OpenVINOProgram(path, num_threads)


#: Backend -> suffixes of the files it runs, and what opens one.
BACKENDS: dict[str, tuple[tuple[str, ...], Callable[[Path, int | None], Program]]] = {
    "litert": ((".tflite",), _litert),
    "onnxruntime": ((".onnx",), _onnxruntime),
    "openvino": ((".tflite", ".onnx"), _openvino),
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
        near = "".join(f" Did you mean {one!r}?" for one in difflib.get_close_matches(backend, BACKENDS, 1, 0.5))
        raise ValueError(f"backend={backend!r} is not one of {', '.join(map(repr, BACKENDS))}.{near}")
    suffixes = BACKENDS[backend][0]
    if path.suffix not in suffixes:
        fitting = [name for name, (known, _) in BACKENDS.items() if path.suffix in known]
        raise ValueError(
            f"{backend} runs {' and '.join(suffixes)} files, not {path.name!r}; "
            + (f"use backend={' or '.join(map(repr, fitting))}." if fitting else "no backend runs this kind of file.")
        )
    return backend


def named_in_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether a path is text in UTF-8, which engines want; on Linux a name may be any bytes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in os.fspath(path))


def file_or_content(path: str | os.PathLike[str]) -> str | bytes:
    """What an engine is given: the path, or the file's content where no engine can say its name."""
    return os.fspath(path) if named_in_utf8(path) else Path(path).read_bytes()


def to_input(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Floats as a graph's input wants them; integer inputs are rounded and clipped.

    Args:
        values: float32.
        dtype: of the graph's input.
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.floor(values + np.float32(0.5)), limits.min, limits.max)
    return np.ascontiguousarray(values, dtype)


def check_input(path: Path, shape: tuple[int | None, ...], names: list[str]) -> None:
    """Refuses what the runtime cannot feed.

    Args:
        path: the file.
        shape: of its first input; ``None`` where a size is open.
        names: of all its inputs.

    Raises:
        ValueError: several inputs, or an open size other than the batch.
    """
    if len(names) != 1:
        raise ValueError(f"{path} takes {len(names)} inputs {names}; the runtime runs models of one input.")
    if None in shape[1:] or not shape:
        raise ValueError(
            f"{path} takes an input of open size {list(shape)}; the runtime needs a fixed one. Export a model built "
            "with a static input_shape."
        )
