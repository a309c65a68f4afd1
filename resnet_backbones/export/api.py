"""One call from a trained model to a verified file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones._util.files import folder_written_whole, size_of, written_whole
from resnet_backbones.export.choices import choose
from resnet_backbones.export.detections import PLACE
from resnet_backbones.export.formats import Format, check_asked, find_format
from resnet_backbones.export.problems import explained
from resnet_backbones.export.report.own_images import own_images
from resnet_backbones.export.report.reasons import float_reasons
from resnet_backbones.export.report.report import ExportReport
from resnet_backbones.export.report.verify import Verification
from resnet_backbones.export.request import Emitted, ExportRequest
from resnet_backbones.keras_compat import input_signature
from resnet_backbones.quantization import quantization_of
from resnet_backbones.quantization.calibration import image_batches
from resnet_backbones.quantization.input_units import warn_of_other_units
from resnet_backbones.runtime.engines.base import named_in_utf8
from resnet_backbones.tasks import task_facts, task_of


def export_model(
    model: Any,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    precision: str | None = None,
    target: str | None = None,
    layout: str | None = None,
    batch: int | None = 1,
    preprocessing: bool | tuple[int, int] = False,
    postprocessing: bool = False,
    class_names: Sequence[str] | None = None,
    input_shape: tuple[int, int, int] | None = None,
    resize: str | None = None,
    parity_data: Any = None,
    layers: bool = False,
    latency: bool = False,
) -> ExportReport:
    """Exports a model to a file that runs elsewhere, and reports what came out.

    Batch norm is folded into the convolutions. The file carries what its outputs mean (task, anchors, classes,
    input scaling), so ``runtime.load(path).predict(images)`` needs nothing else. It is written whole or not at all.

    Args:
        model: a built Keras model with one image input.
        path: the file to write, ending in ``.tflite`` or ``.onnx``.
        format: ``"litert"`` or ``"onnx"``; default: by the path's suffix.
        precision: that of its scheme, ``"int8"`` or ``"int16x8"`` (default for a quantized model), ``"float32"``
            (default otherwise) or ``"float16"`` (weights stored in half precision). A quantized model becomes a float
            file, without its quantizers, only if a float precision is asked for.
        target: of an ONNX file, ``"tensorrt"`` (default) or ``"onnxruntime"``.
        layout: of an ONNX file's image input, ``"NCHW"`` (default) or ``"NHWC"``.
        batch: images a call; ``None`` for any number.
        preprocessing: whether the file takes images in the Keras model's own units and rescales them; with
            ``(height, width)``, images of that size, which it also resizes.
        postprocessing: whether a detector's file decodes and suppresses boxes itself.
        class_names: names of the classes, by index; carried in the file.
        input_shape: (height, width, channels) of the file's images, for a model built for any size, such as a backbone
            of ``input_shape=(None, None, 3)``.
        resize: how images of other sizes were brought to the model's when it was trained, ``"stretch"`` or
            ``"letterbox"`` (aspect kept, padded with grey); carried in the file, and what ``predict`` does by default.
        parity_data: images to compare file and Keras model on: an array (N, H, W, C) or batches, as for calibration.
            ``None``: a few images of the calibration, if it was in this process, else random ones.
        layers: compare every layer on ``parity_data`` too: where the error enters.
        latency: time the file on this machine, in turns with its float32 form where it is quantized.

    Returns:
        The report: size, operators, int8 share of the multiply-accumulates, what stayed in float and why, kernels,
        parity, and whether all that passes.

    Raises:
        ValueError: int8 of a float model, a model that shares quantized layers but is not quantized itself, a format
            without the integers of the scheme, ranges that were never observed, bits that LiteRT has no operators for,
            an unknown precision or suffix, an input of open size without ``input_shape``, or of another size than it.
        OSError: the folder does not exist or cannot be written to.

    Example:
        >>> report = export_model(detector, "detector.tflite", parity_data=images[:8])
        >>> print(report)
    """
    path = Path(path)
    row = find_format(path, format)
    asked: dict[str, Any] = {
        "precision": precision,
        "target": target,
        "layout": layout,
        "batch": batch,
        "preprocessing": preprocessing,
        "postprocessing": postprocessing,
        "input_shape": input_shape,
    }
    check_asked(row, **asked, resize=resize, layers=layers, latency=latency, parity_data=parity_data)
    request = choose(model, row, class_names=class_names, **asked)
    if not row.suffix and not named_in_utf8(path):
        raise ValueError(f"TensorFlow writes folders whose names are UTF-8; {str(path)!r} is none: give another name.")
    emitter = row.emitter
    emitter.check(model, request)
    inputs = len(tf.nest.flatten(input_signature(model)))
    if parity_data is not None and inputs != 1:
        raise ValueError(
            f"{model.name!r} has {inputs} inputs, and file and Keras model are compared on one: leave parity_data out."
        )
    written = written_whole if row.suffix else folder_written_whole
    with written(path) as temporary, tempfile.TemporaryDirectory() as elsewhere:
        with explained(model, row.name, quantized=request.quantized):
            emitted = emitter.emit(model, request)
        emitter.write(emitted, _metadata(model, request, emitted, resize), temporary)
        report = _report(model, row, request, emitted, temporary)
        compared, place = emitted, temporary
        if emitted.bare is not None:
            compared, place = emitted.bare, Path(elsewhere) / f"bare{row.suffix}"
            emitter.write(compared, _metadata(model, request, compared, resize), place)
        verification = Verification(model, row, request, compared, place)
        report.kernels = verification.kernels()
        if parity_data is not None:
            batches = [np.asarray(images, np.float32) for images in image_batches(parity_data, name="The parity data")]
            if batches:
                warn_of_other_units(model, batches[0], "The parity data")
            report.parity, report.compared_on = verification.outputs(batches), "parity_data"
            report.layers = verification.layers(batches) if layers else []
        elif (own := own_images(model, request.preprocessing or request.input_shape)) is not None:
            with contextlib.suppress(ImportError):  # what runs such files need not be there where they are made
                report.parity, report.compared_on = verification.outputs([own[1]]), own[0]
        if latency:
            report.latency = verification.latency(temporary)
    report.path = path
    return report


def _report(model: Any, row: Format, request: ExportRequest, emitted: Emitted, path: Path) -> ExportReport:
    """What is known without running anything."""
    unsupported = dict((quantization_of(model) or {}).get("unsupported", {}))
    if request.postprocessing:
        unsupported[PLACE] = "it decodes and suppresses boxes, in float"
    task = task_of(model)
    report = ExportReport(path, request.precision, size_of(path), emitted.census, unsupported)
    report.format = row.name
    if request.quantized and emitted.sources is not None:
        report.float_reasons = float_reasons(model, emitted.census, emitted.sources)
    if task is not None:
        report.int8_share_wanted = task.int8_share
    return report


def _metadata(model: Any, request: ExportRequest, emitted: Emitted, resize: str | None) -> dict[str, Any]:
    names, known = request.class_names, dict(emitted.metadata)
    if resize is not None:
        known["input"] = {**known["input"], "resize": resize}
    return {
        "format": "resnet_backbones",
        "version": 1,
        "task": task_facts(model),
        **known,
        "class_names": None if names is None else [str(name) for name in names],
    }
