"""A ``.tflite`` file as a function of arrays: LiteRT's interpreter, quantization hidden."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones.runtime.engines.base import Program, check_input, file_or_content, quantize
from resnet_backbones.runtime.outputs import Output


def model_at(path: str | os.PathLike[str]) -> dict[str, str | bytes]:
    """The arguments that give LiteRT's interpreter a file."""
    given = file_or_content(path)
    return {"model_path": given} if isinstance(given, str) else {"model_content": given}


class LiteRTProgram(Program):
    """One ``.tflite`` with one input, ready to run; safe to share between threads (calls take turns).

    Args:
        path: the file.
        num_threads: threads of the interpreter; ``None`` leaves the choice to LiteRT.

    Raises:
        ImportError: LiteRT is not installed.
        ValueError: no whole ``.tflite``, or a model of several inputs.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int | None = None):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                'The runtime needs LiteRT (ai-edge-litert): pip install "resnet-backbones[runtime]".'
            ) from error
        try:
            self._interpreter = Interpreter(**model_at(path), num_threads=num_threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"LiteRT cannot load {path}: {error}. The file is cut short, damaged, no .tflite, or uses "
                "operators LiteRT lacks. Copy or export it again."
            ) from error
        self._lock = threading.Lock()
        self._fed: np.ndarray | None = None  # the batch that the input holds
        inputs = self._interpreter.get_input_details()
        self.input_shape = _shape(inputs[0]) if inputs else ()
        check_input(Path(path), self.input_shape, [detail["name"] for detail in inputs])
        self._input = inputs[0]
        self._outputs = self._named_outputs()
        self.output_shapes = {name: _shape(detail) for name, detail in self._outputs.items()}

    def encoded(self, values: np.ndarray) -> np.ndarray:
        return quantize(values, self._input)

    def __call__(self, batch: np.ndarray) -> dict[str, Output]:
        with self._lock:
            self._set(batch)
            self._interpreter.invoke()
            return {
                name: Output(self._interpreter.get_tensor(detail["index"]), *detail["quantization"])
                for name, detail in self._outputs.items()
            }

    def prepared(self, batch: np.ndarray) -> Callable[[], object]:
        def run() -> None:
            with self._lock:
                if self._fed is not batch:  # or a prediction came between
                    self._set(batch)
                self._interpreter.invoke()

        return run

    def _set(self, batch: np.ndarray) -> None:
        index = self._input["index"]
        if self.input_shape[0] is None and tuple(self._interpreter.get_input_details()[0]["shape"]) != batch.shape:
            self._interpreter.resize_tensor_input(index, batch.shape, strict=True)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(index, batch)
        self._fed = batch

    def _named_outputs(self) -> dict[str, dict[str, Any]]:
        """Outputs by the names of the signature, where the file has one; else by tensor name."""
        details = {detail["index"]: detail for detail in self._interpreter.get_output_details()}
        signatures = self._interpreter.get_signature_list()
        if not signatures:
            return {detail["name"]: detail for detail in details.values()}
        name = "serving_default" if "serving_default" in signatures else next(iter(signatures))
        runner = self._interpreter.get_signature_runner(name)
        return {output: details[detail["index"]] for output, detail in runner.get_output_details().items()}


def _shape(detail: dict[str, Any]) -> tuple[int | None, ...]:
    """A tensor's shape; ``None`` where its signature leaves a size open."""
    signature = detail.get("shape_signature", [])
    sizes = signature if len(signature) == len(detail["shape"]) else detail["shape"]
    return tuple(None if size < 0 else int(size) for size in sizes)
