"""Measures a written file: its outputs, layers, kernels and speed, beside the Keras model's."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.errors import ExportError
from resnet_backbones.export.formats import Format
from resnet_backbones.export.graph import named_outputs
from resnet_backbones.export.preprocess import image_size, prepared
from resnet_backbones.export.report.kernels import KernelParity, compare_kernels
from resnet_backbones.export.report.latency import Latency, processors, time_in_turns
from resnet_backbones.export.report.layers import LayerParity, compare_layers
from resnet_backbones.export.report.parity import OutputParity, output_parity
from resnet_backbones.export.request import UNCHANGED, Emitted, ExportRequest
from resnet_backbones.keras_compat import computing_in_float32
from resnet_backbones.quantization import context
from resnet_backbones.quantization.rounding_noise import rounding_noise
from resnet_backbones.tasks import task_of

_RUNS = 3  # of the Keras model with its values shifted


class Verification:
    """Compares one file with the model it was made of. The model runs in the form that was exported.

    Args:
        model: the Keras model.
        row: the file's format.
        request: what was asked for.
        emitted: what was made.
        path: the file; where it post-processes, the same without that.
    """

    def __init__(self, model: Any, row: Format, request: ExportRequest, emitted: Emitted, path: Path) -> None:
        self._model, self._row, self._request, self._emitted, self._path = model, row, request, emitted, path

    def outputs(self, batches: list[np.ndarray]) -> list[OutputParity]:
        """Compares each output; where one of a quantized file misses its bar, the Keras model with itself too.

        Args:
            batches: images as the file takes them.

        Raises:
            ValueError: there are no images.
        """
        if not batches:
            raise ValueError("The parity data is empty, so there is nothing to compare on.")
        try:
            run = self._row.emitter.runner(self._path, self._request)
        except ValueError as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ExportError(
                f"The file that the converter to {self._row.name} makes of {self._model.name!r} cannot be loaded, and "
                f"none was written: {reason} Replace the layer that it names, or choose another format."
            ) from error
        exported = _joined(run(images).items() for images in batches)
        expected = self._expected(batches)
        found = [self._compared(name, exported[name], values) for name, values in expected.items()]
        if not self._request.quantized or not any(entry.failures for entry in found):
            return found
        itself = []
        for seed in range(_RUNS):
            with rounding_noise(seed):
                itself.append(self._expected(batches))
        return [
            dataclasses.replace(
                entry,
                of_itself=tuple(self._compared(entry.name, own[entry.name], expected[entry.name]) for own in itself),
            )
            for entry in found
        ]

    def _expected(self, batches: list[np.ndarray]) -> dict[str, np.ndarray]:
        return _joined(named_outputs(self._keras(images)) for images in batches)

    def _compared(self, name: str, values: np.ndarray, expected: np.ndarray) -> OutputParity:
        task = task_of(self._model)
        by_class = task is not None and task.class_per_pixel
        return output_parity(name, values, expected, self._emitted.steps.get(name), by_class)

    def layers(self, batches: list[np.ndarray]) -> list[LayerParity]:
        """Compares what each layer call returns.

        Args:
            batches: images as the file takes them.
        """
        emitted, sources = self._emitted, self._emitted.sources
        if sources is None:
            return []
        taps = sources.exact_taps(emitted.tensors) if emitted.exact_names else sources.taps(emitted.tensors)
        run = self._row.inspector.intermediates(self._path, taps)
        return compare_layers(taps, run, self._keras, batches, sources, emitted.census)

    def kernels(self) -> KernelParity | None:
        """Compares the integers of the kernels; ``None`` where the file has none."""
        emitted = self._emitted
        if not self._request.quantized or emitted.sources is None:
            return None
        return compare_kernels(self._model, emitted.kernels, emitted.sources)

    def latency(self, path: Path, threads: int | None = None) -> list[Latency]:
        """Times the file, and beside a quantized one the same in float32.

        Args:
            path: the file.
            threads: how many to use; ``None``: as many as there are processors for this process.
        """
        threads = threads or processors()
        emitter = self._row.emitter
        programs = {self._request.precision: self._row.inspector.timer(path, threads)}
        with tempfile.TemporaryDirectory() as folder:
            if self._request.quantized:
                plain = dataclasses.replace(self._request, precision="float32")
                other = Path(folder) / f"float32{self._row.suffix}"
                emitted = emitter.emit(self._model, plain)
                emitter.write(emitted, {"task": {"name": "tensors"}, **emitted.metadata}, other)
                programs["float32"] = self._row.inspector.timer(other, threads)
            return time_in_turns(programs, threads)

    def _keras(self, images: np.ndarray) -> Any:
        if self._request.preprocessing is not None:
            images = prepared(tf.constant(images), image_size(self._model, self._request.input_shape), None)
        with self._form():
            return self._model(images, training=False)

    @contextlib.contextmanager
    def _form(self) -> Iterator[None]:
        if self._request.precision == UNCHANGED:
            yield
            return
        mode = context.QUANTIZE if self._request.quantized else context.FLOAT
        with context.use_mode(mode), context.use_view(self._request.view), computing_in_float32(self._model):
            yield


def _joined(batches: Iterable[Iterable[tuple[str, Any]]]) -> dict[str, np.ndarray]:
    """Output name -> its values over all batches."""
    found: dict[str, list[np.ndarray]] = {}
    for outputs in batches:
        for name, value in outputs:
            found.setdefault(name, []).append(np.asarray(value, np.float32))
    return {name: np.concatenate(values) for name, values in found.items()}
