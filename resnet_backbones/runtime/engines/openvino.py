"""An ``.onnx`` or ``.tflite`` file as a function of arrays: OpenVINO on the CPU."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones.runtime.engines.base import Program, check_input, file_or_content, quantize, to_input
from resnet_backbones.runtime.files.tflite import End, holds_four_bits, read_ends
from resnet_backbones.runtime.outputs import Output

_FLOAT = (0.0, 0)


class OpenVINOProgram(Program):
    """One file with one input, ready to run; safe to share between threads (calls take turns).

    Floats are computed as float32: OpenVINO's own choice on CPUs that have bfloat16 would differ from other backends.

    Args:
        path: the file.
        num_threads: threads of the inference; ``None`` leaves the choice to OpenVINO.

    Raises:
        ImportError: OpenVINO is not installed.
        ValueError: no whole model, or a model of several inputs.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int | None = None):
        try:
            import openvino
        except ImportError as error:
            raise ImportError('This backend needs OpenVINO: pip install "resnet-backbones[openvino]".') from error
        path = Path(path)
        given, returned = read_ends(path) if path.suffix == ".tflite" else ([], [])
        content = file_or_content(path)
        if path.suffix == ".tflite" and isinstance(content, bytes):
            raise ValueError(f"OpenVINO takes .tflite files whose names are UTF-8; {str(path)!r} is none: rename it.")
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if num_threads is not None:
            settings["INFERENCE_NUM_THREADS"] = num_threads
        try:
            core = openvino.Core()
            self._model = core.compile_model(core.read_model(content), "CPU", settings)
        except (RuntimeError, TypeError, ValueError) as error:
            if path.suffix == ".tflite" and holds_four_bits(path):
                raise ValueError(
                    f"{path} has kernels of 4 bits, which OpenVINO cannot load from a .tflite. Run it on LiteRT "
                    "(backend='litert'), export the model to .onnx, where such kernels are held in 8 bits, or quantize "
                    "it with kernels of 8 bits."
                ) from error
            raise ValueError(
                f"OpenVINO cannot load {path}: {error}. The file is cut short, damaged, or uses operators OpenVINO "
                "lacks. Copy or export it again."
            ) from error
        self._lock = threading.Lock()
        inputs = self._model.inputs
        self.input_shape = _shape(inputs[0]) if inputs else ()
        check_input(path, self.input_shape, [entry.get_any_name() for entry in inputs])
        self._dtype = inputs[0].get_element_type().to_dtype()
        self._input_quantization = given[0].quantization if given else _FLOAT
        self._outputs = _named(self._model.outputs, returned)
        self.output_shapes = {name: _shape(port) for name, (port, _) in self._outputs.items()}

    def __call__(self, batch: np.ndarray) -> dict[str, Output]:
        with self._lock:
            found = self._model({0: batch}, share_inputs=True, share_outputs=True)  # each output is copied once, below
            return {name: Output(np.array(found[port]), *steps) for name, (port, steps) in self._outputs.items()}

    def prepared(self, batch: np.ndarray) -> Callable[[], object]:
        request = self._model.create_infer_request()

        def run() -> None:
            with self._lock:
                request.infer({0: batch}, share_inputs=True, share_outputs=True)

        return run

    def encoded(self, values: np.ndarray) -> np.ndarray:
        if self._input_quantization[0]:
            values = quantize(values, {"dtype": self._dtype, "quantization": self._input_quantization})
        return to_input(values, self._dtype)


def _named(ports: list[Any], ends: list[End]) -> dict[str, tuple[Any, tuple[float, int]]]:
    """Output name -> OpenVINO's port, scale and zero point. A ``.tflite`` names outputs in its signature."""
    by_tensor = {name: port for port in ports for name in port.get_names()}
    if not ends:
        return {port.get_any_name(): (port, _FLOAT) for port in ports}
    return {end.name: (by_tensor[end.tensor], end.quantization) for end in ends if end.tensor in by_tensor}


def _shape(port: Any) -> tuple[int | None, ...]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if size.is_dynamic else int(size.get_length()) for size in shape)
