"""``load(path)`` gives a :class:`Model`: images in, results out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones.runtime.decoders import DECODERS, Decoder, Request
from resnet_backbones.runtime.engines.base import Program
from resnet_backbones.runtime.engines.choose import open_program
from resnet_backbones.runtime.feeding import RESIZES, Feed, ImagePlace, place, stretched
from resnet_backbones.runtime.files.metadata import read_verified
from resnet_backbones.runtime.files.onnx import verify_onnx
from resnet_backbones.runtime.files.tflite import verify_tflite
from resnet_backbones.runtime.images import check_finite, read_image, split_images
from resnet_backbones.runtime.outputs import JoinedOutput, Output, joined, part_names

_VERIFY = {".onnx": verify_onnx, ".tflite": verify_tflite}


def load(path: str | os.PathLike[str], backend: str | None = None, num_threads: int | None = None) -> Model:
    """Loads an exported ``.tflite`` or ``.onnx``; needs numpy and the backend only.

    The file is checked before the backend sees it: against the hash it carries, where it carries one, and for what
    makes engines crash or reach for other files.

    Args:
        path: a file written by ``export_model``, or any other of one input (then only ``raw`` works).
        backend: ``"litert"`` (.tflite), ``"onnxruntime"`` (.onnx) or ``"openvino"`` (both);
            ``None`` to go by the suffix.
        num_threads: threads of the backend; ``None`` leaves the choice to it.

    Returns:
        The model, ready to predict.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is cut short, damaged, of another kind, or the backend does not run such files.
        ImportError: the backend is not installed.

    Example:
        >>> model = load("detector.onnx", num_threads=2)
        >>> model.predict("street.jpg", confidence=0.3)[0].boxes
    """
    metadata = read_verified(path)
    verify = _VERIFY.get(Path(path).suffix)
    if verify is not None:
        verify(path)
    return Model(open_program(path, backend, num_threads), metadata, str(path))


class Model:
    """An exported network with its pre- and post-processing. Made by :func:`load`."""

    def __init__(self, program: Program, metadata: dict[str, Any] | None, path: str):
        self._program = program
        self._encoded = program.encoded
        self._path = path
        #: What the file says about itself (see ``runtime.metadata``); ``None`` for a foreign file.
        self.metadata = metadata
        names = program.output_shapes
        self._outputs: list[dict[str, Any]] = [{"name": name, "parts": [name]} for name in names]
        self._feed = Feed(program.input_shape, {} if metadata is None else metadata["input"], path)
        if metadata is not None and metadata["outputs"]:
            self._outputs = metadata["outputs"]
        absent = sorted({part for output in self._outputs for part in part_names(output)} - set(names))
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
    def input_shape(self) -> tuple[int | None, ...]:
        """``(batch, height, width, channels)`` of the network's input, whatever the file's layout.

        A batch of ``None`` is any number of images.
        """
        return self._feed.shape

    def raw(self, images: Any, resize: str | None = None) -> dict[str, np.ndarray]:
        """The network's outputs, as the Keras model gives them.

        Args:
            images: an array ``(N, H, W, C)`` or ``(H, W, C)``, a path, a PIL image, or a list of these, of any size;
                arrays in the units the Keras model takes (0..255, say). For a network whose input is no image: an array
                ``(N, ...)`` of the input's shape.
            resize: how an image of another size comes to the input's: ``"stretch"``, or ``"letterbox"``, which keeps
                its aspect and pads with grey (114); ``None`` as the file says, or stretched if it does not.

        Returns:
            Outputs by name, float32, batch first.

        Raises:
            FileNotFoundError, ValueError: an image that is not there or does not fit.
            RuntimeError: the backend fails to run the network.
        """
        resize = self._resizing(resize)
        batches = [outputs for outputs, _ in self._run(self._sources(images), resize)]
        if not batches:
            shapes = self._program.output_shapes.items()
            batches = [
                self._joined({n: Output(np.zeros((0, *(size or 0 for size in s[1:])), np.float32)) for n, s in shapes})
            ]
        names = [output["name"] for output in self._outputs]
        return {name: np.concatenate([batch[name].floats() for batch in batches]) for name in names}

    def predict(
        self,
        images: Any,
        confidence: float | None = None,
        iou: float | None = None,
        top_k: int = 5,
        resize: str | None = None,
    ) -> list[Any]:
        """Runs the network and decodes its outputs, batch by batch.

        Args:
            images: as in :meth:`raw`.
            confidence: detectors: only boxes that score above it, 0 to 1; ``None``: the model's own threshold.
            iou: detectors: overlap from which boxes are taken for the same object; ``None``: the model's own.
            top_k: classifiers: number of classes returned.
            resize: as in :meth:`raw`; what the model was trained with. Boxes and segmentations come back in pixels
                of the image as it was given.

        Returns:
            A list, one :class:`Detections`, :class:`Classification` or :class:`Segmentation` an image.

        Raises:
            FileNotFoundError: an image that is not there.
            ValueError: the file's task has no decoder (``raw`` works), or an argument is out of range.
            RuntimeError: the backend fails to run the network.

        Example:
            >>> found = model.predict(["a.jpg", "b.jpg"])[0]
            >>> found.boxes[found.scores > 0.8]
            >>> found.draw("a.jpg").save("found.png")
        """
        for name, value in (("confidence", confidence), ("iou", iou)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {value}.")
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}.")
        resize = self._resizing(resize)
        decode = self._decoder
        request = Request(confidence, iou, top_k)
        results: list[Any] = []
        for outputs, placements in self._run(split_images(images, self._feed.channels), resize):
            short = [name for name, value in outputs.items() if value.images != len(placements)]
            if short:
                raise ValueError(f"{self._path} gives {short} without an entry for each of {len(placements)} images.")
            for index, placement in enumerate(placements):
                rows = {name: value.of_image(index) for name, value in outputs.items()}
                results.append(decode(rows, placement.image_size, request, self._feed.in_network(placement)))
        return results

    def timer(self) -> Callable[[], object]:
        """A function that runs the network once on noise, on its backend and nothing round it, for measuring.

        A file that takes any number of images is given one. It may be called while other threads predict.

        Example:
            >>> run = load("detector.tflite", num_threads=2).timer()
            >>> timeit.timeit(run, number=100) / 100
        """
        batch = self._feed.empty(1)
        if batch.ndim == 4:  # else zeros: what is no image may be indices
            batch[:] = np.random.default_rng(0).uniform(0, 255, batch.shape)
        return self._program.prepared(self._encoded(self._feed.to_graph(batch)))

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
        size = self._feed.network_size
        return DECODERS[self.task](self.metadata["task"], size, self.metadata.get("class_names"))

    def _sources(self, images: Any) -> list[Any]:
        shape = self.input_shape
        if len(shape) == 4:
            return split_images(images, self._feed.channels)
        array = np.asarray(images)
        if array.shape[1:] != shape[1:]:
            raise ValueError(f"The input has shape {array.shape}; {self._path} takes {('N', *shape[1:])}.")
        check_finite(array, "the input")
        return list(array)

    def _resizing(self, resize: str | None) -> str:
        """How images are resized: as asked for, as the file says, or stretched."""
        if resize is None:
            resize = ({} if self.metadata is None else self.metadata["input"]).get("resize") or "stretch"
        if resize not in RESIZES:
            raise ValueError(f"resize must be one of {', '.join(RESIZES)}, got {resize!r}.")
        return resize

    def _run(self, sources: list[Any], resize: str) -> Iterator[tuple[dict[str, JoinedOutput], list[ImagePlace]]]:
        """Outputs of each batch in turn, and where each image lies in it."""
        size = self._feed.batch_size(len(sources))
        for start in range(0, len(sources), size):
            chunk = sources[start : start + size]
            batch, placements = self._batch(chunk, start, resize)
            try:
                outputs = self._program(batch)
            except ValueError as error:
                raise RuntimeError(
                    f"{self._path} cannot be run: {error}. The file may be damaged; export it again."
                ) from error
            # A last batch of a fixed size was filled up with zeros, which are cut off again.
            joined = {name: value.first(len(chunk)) for name, value in self._joined(outputs).items()}
            self._warn_of_nan(joined, start)
            yield joined, placements

    def _batch(self, sources: list[Any], first: int, resize: str) -> tuple[np.ndarray, list[ImagePlace]]:
        """Images as the engine takes them, and where each lies; ``first`` is the number of the first of them.

        Images that are bytes, and of the input's size, need not become floats first: a table says what each byte is.
        """
        batch, placements = self._feed.empty(len(sources)), []
        if batch.ndim != 4:
            batch[: len(sources)] = sources
            return self._encoded(self._feed.to_graph(batch)), placements
        given: np.ndarray | None = np.zeros(batch.shape, np.uint8)
        for row, source in enumerate(sources):
            image, image_size = read_image(source, batch.shape[-1], first + row)
            if given is not None and image.dtype == np.uint8 and (*image_size, image.shape[2]) == given.shape[1:]:
                given[row] = image
                placements.append(stretched(image_size, image.shape[:2]))
                continue
            if given is not None:
                batch[:row], given = given[:row], None
            placements.append(place(image, batch[row], resize, image_size))
        if given is None:
            return self._encoded(self._feed.to_graph(batch)), placements
        return self._feed.looked_up(given, self._table), placements

    @cached_property
    def _table(self) -> np.ndarray:
        return self._feed.table(self._encoded)

    def _warn_of_nan(self, outputs: dict[str, JoinedOutput], first: int) -> None:
        """Warns where the network computes NaN; ``first`` is the number of the batch's first image."""
        for name, value in outputs.items():
            if not any(part.values.dtype.kind == "f" and np.isnan(part.values.max(initial=0)) for part in value.parts):
                continue
            found = np.isnan(value.floats())
            images = np.flatnonzero(found.reshape(len(found), -1).any(axis=1)) + first if found.ndim else [first]
            warnings.warn(
                f"{self._path} gives NaN in its output {name!r} for image {', '.join(map(str, images))}: what it finds "
                "there means nothing. Its weights may hold NaN, or values overflow (float16?). Check the model it was "
                "exported from.",
                stacklevel=4,
            )

    def _joined(self, outputs: dict[str, Output]) -> dict[str, JoinedOutput]:
        """The file's outputs as the Keras model gives them."""
        found = {}
        for output in self._outputs:
            try:
                found[output["name"]] = joined(output, outputs)
            except ValueError as error:
                raise ValueError(
                    f"The metadata of {self._path} joins {output['parts']} along axis {output.get('axis', 0)}, which "
                    f"does not fit ({error}): it belongs to another model. Export it again."
                ) from error
        return found
