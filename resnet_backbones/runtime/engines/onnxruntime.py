"""An ``.onnx`` file as a function of arrays: ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from resnet_backbones.runtime.engines.base import Program, check_input, file_or_content, to_input
from resnet_backbones.runtime.outputs import Output

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
}
_FATAL = 4  # ONNX Runtime's severity: its errors come as exceptions, so nothing else is worth printing


class ONNXRuntimeProgram(Program):
    """One ``.onnx`` with one input, ready to run; safe to share between threads.

    Args:
        path: the file.
        num_threads: threads within an operator; ``None`` leaves the choice to ONNX Runtime.

    Raises:
        ImportError: ONNX Runtime is not installed.
        ValueError: no whole ``.onnx``, a model of several inputs, or an input of a type no image has.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int | None = None):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError('An .onnx file needs ONNX Runtime: pip install "resnet-backbones[onnx]".') from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = num_threads or 0
        try:
            given = file_or_content(path)
            self._session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise ValueError(
                f"ONNX Runtime cannot load {path}: {error}. The file is cut short, damaged, no .onnx, or uses "
                "operators ONNX Runtime lacks. Copy or export it again."
            ) from error
        inputs = self._session.get_inputs()
        self.input_shape = _shape(inputs[0].shape) if inputs else ()
        check_input(Path(path), self.input_shape, [entry.name for entry in inputs])
        if inputs[0].type not in TYPES:
            raise ValueError(f"{path} takes {inputs[0].type}; the runtime feeds {', '.join(TYPES)}.")
        self._name, self._dtype = inputs[0].name, TYPES[inputs[0].type]
        self.output_shapes = {entry.name: _shape(entry.shape) for entry in self._session.get_outputs()}

    def encoded(self, values: np.ndarray) -> np.ndarray:
        return to_input(values, self._dtype)

    def __call__(self, batch: np.ndarray) -> dict[str, Output]:
        try:
            values = self._session.run(list(self.output_shapes), {self._name: batch})
        except Exception as error:  # as in loading
            raise RuntimeError(f"ONNX Runtime cannot run the network: {error}.") from error
        return {name: Output(np.asarray(value)) for name, value in zip(self.output_shapes, values, strict=True)}

    def prepared(self, batch: np.ndarray) -> Callable[[], object]:
        given, names = {self._name: batch}, list(self.output_shapes)  # a session runs in many threads at once
        return lambda: self._session.run(names, given)


def _shape(sizes: list[int | str | None] | None) -> tuple[int | None, ...]:
    """Sizes with names, or none, are open."""
    return tuple(size if isinstance(size, int) and size >= 0 else None for size in sizes or ())
