"""``load(path)`` gives a :class:`Model`: images in, results out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from resnet_backbones.runtime.decoders import DECODERS, Decoder, Request
from resnet_backbones.runtime.images import as_image_list, resize_bilinear
from resnet_backbones.runtime.litert import LiteRTProgram
from resnet_backbones.runtime.metadata import read_metadata


def load(path: str | os.PathLike, *, num_threads: int | None = None) -> Model:
    """Loads an exported ``.tflite``; needs numpy and LiteRT only.

    Args:
        path: a file written by ``export_model``, or any other ``.tflite`` of one input (then only ``raw`` works).
        num_threads: threads of the interpreter; ``None`` leaves the choice to LiteRT.

    Returns:
        The model, ready to predict.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is cut short, damaged, or no ``.tflite``.
        ImportError: LiteRT is not installed.

    Example:
        >>> model = load("detector.tflite", num_threads=2)
        >>> model.predict(images, confidence=0.3)[0].boxes
    """
    metadata = read_metadata(path)
    return Model(LiteRTProgram(path, num_threads), metadata, str(path))


class Model:
    """An exported network with its pre- and post-processing. Made by :func:`load`."""

    def __init__(self, program: LiteRTProgram, metadata: dict[str, Any] | None, path: str):
        self._program = program
        self._path = path
        #: What the file says about itself (see ``runtime.metadata``); ``None`` for a foreign ``.tflite``.
        self.metadata = metadata
        names = program.output_shapes
        self._parts = [(name, [name], 0) for name in names]
        self._scale, self._offset = np.float32(1), np.float32(0)
        if metadata is not None:
            if metadata["outputs"]:
                self._parts = [(out["name"], out["parts"], out.get("axis", 0)) for out in metadata["outputs"]]
            self._scale = np.asarray(metadata["input"].get("scale", 1.0), np.float32)
            self._offset = np.asarray(metadata["input"].get("offset", 0.0), np.float32)
        absent = sorted({part for _, parts, _ in self._parts for part in parts} - set(names))
        if absent:
            raise ValueError(
                f"The metadata of {path} names outputs {absent}, the file has {sorted(names)}: the metadata belongs to "
                "another model. Export it again."
            )

    @property
    def task(self) -> str:
        """The task's name, e.g. ``"retinanet"``; ``"tensors"`` where nothing is known about the outputs."""
        return "tensors" if self.metadata is None else self.metadata["task"]["name"]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(batch, height, width, channels)`` of the network's input."""
        return self._program.input_shape

    def raw(self, images: Any) -> dict[str, np.ndarray]:
        """The network's outputs, as the Keras model gives them.

        Args:
            images: array ``(N, H, W, C)`` or ``(H, W, C)``, or a list of arrays of any size, in the units the
                Keras model takes (0..255, say); resized to the input. For a network whose input is no image:
                an array ``(N, ...)`` of the input's shape.

        Returns:
            Outputs by name, float32, batch first.

        Raises:
            ValueError: the images' shape does not fit.
        """
        batches = list(self._run(self._prepare(images)))
        shapes = self._program.output_shapes
        return {
            name: np.concatenate([batch[name] for batch in batches])
            if batches
            else np.zeros((0, *shapes[parts[0]][1:]), np.float32)
            for name, parts, _ in self._parts
        }

    def predict(
        self, images: Any, confidence: float | None = None, iou: float | None = None, top_k: int = 5
    ) -> list[Any]:
        """Runs the network and decodes its outputs, batch by batch.

        Args:
            images: as in :meth:`raw`.
            confidence: detectors: only boxes that score above it, 0 to 1; ``None``: the model's own threshold.
            iou: detectors: overlap from which boxes are taken for the same object; ``None``: the model's own.
            top_k: classifiers: number of classes returned.

        Returns:
            A list, one :class:`Detections` or :class:`Classification` an image.

        Raises:
            ValueError: the file's task has no decoder (``raw`` works), or an argument is out of range.

        Example:
            >>> found = model.predict([image_a, image_b])[0]
            >>> found.boxes[found.scores > 0.8]
        """
        for name, value in (("confidence", confidence), ("iou", iou)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {value}.")
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}.")
        decode = self._decoder
        request = Request(confidence, iou, top_k)
        images = as_image_list(images, self.input_shape[-1])
        results: list[Any] = []
        for outputs in self._run(images):
            for index in range(len(next(iter(outputs.values())))):
                size = images[len(results)].shape[:2]
                results.append(decode({name: value[index] for name, value in outputs.items()}, size, request))
        return results

    @cached_property
    def _decoder(self) -> Decoder:
        if self.metadata is None:
            raise ValueError(
                f"{self._path} carries no metadata of this library, so its outputs cannot be decoded: use raw(), or "
                "write the file with resnet_backbones.export_model."
            )
        if self.task not in DECODERS:
            raise ValueError(
                f"The runtime does not decode {self.task!r} yet (it decodes {sorted(DECODERS)}): use raw()."
            )
        height, width = self.input_shape[1:3]
        try:
            return DECODERS[self.task](self.metadata["task"], (height, width), self.metadata.get("class_names"))
        except KeyError as error:
            raise ValueError(
                f"The metadata of {self._path} lacks {error} for the task {self.task!r}: export the model again."
            ) from error

    def _prepare(self, images: Any) -> list[np.ndarray]:
        shape = self.input_shape
        if len(shape) == 4:
            return as_image_list(images, shape[-1])
        array = np.asarray(images)
        if array.shape[1:] != shape[1:]:
            raise ValueError(f"The input has shape {array.shape}; {self._path} takes {('N', *shape[1:])}.")
        return list(array)

    def _run(self, images: list[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Outputs of each batch in turn; the last batch is filled up with zeros, which are cut off again."""
        size = max(1, self.input_shape[0]) if self.input_shape else 1
        for start in range(0, len(images), size):
            chunk = images[start : start + size]
            batch = np.zeros(self.input_shape, np.float32)
            for row, image in enumerate(chunk):
                batch[row] = resize_bilinear(image, *batch.shape[1:3]) if batch.ndim == 4 else image
            outputs = self._program(batch * self._scale + self._offset)
            yield {
                name: (
                    outputs[parts[0]] if len(parts) == 1 else np.concatenate([outputs[part] for part in parts], axis)
                )[: len(chunk)]
                for name, parts, axis in self._parts
            }
