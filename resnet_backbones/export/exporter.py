"""One call from a trained model to a verified file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones import runtime
from resnet_backbones.export.census import take_census
from resnet_backbones.export.expressible import check_expressible
from resnet_backbones.export.graph import ExportGraph, build_graph, named_outputs
from resnet_backbones.export.litert import convert, output_steps
from resnet_backbones.export.report import ExportReport, OutputParity, output_parity
from resnet_backbones.files import written_whole
from resnet_backbones.quantization import context, quantization_of, quantizers_of
from resnet_backbones.quantization.calibration import image_batches
from resnet_backbones.runtime.metadata import append_metadata
from resnet_backbones.tasks import task_of

PRECISIONS = ("float32", "float16", "int8")


def export_model(
    model: Any,
    path: str | os.PathLike[str],
    *,
    precision: str | None = None,
    parity_data: Any = None,
    class_names: Sequence[str] | None = None,
) -> ExportReport:
    """Exports a model to a LiteRT file that the runtime, or any LiteRT interpreter, runs.

    Batch norm is folded into the convolutions. The file carries what its outputs mean (task, anchors, classes,
    input scaling), so ``runtime.load(path).predict(images)`` needs nothing else. It is written whole or not at all.

    Args:
        model: a built Keras model with one image input of fixed size.
        path: the file to write, ending in ``.tflite``.
        precision: ``"int8"`` (default for a quantized model), ``"float32"`` (default otherwise) or ``"float16"``
            (weights stored in half precision). A quantized model exported in a float precision loses its quantizers.
        parity_data: images to compare file and Keras model on: an array (N, H, W, C) or batches, as for calibration.
        class_names: names of the classes, by index; carried in the file.

    Returns:
        The report: size, operators, int8 share of the multiply-accumulates, what stayed in float and why, parity.

    Raises:
        ValueError: int8 of a float model, ranges that were never observed, bits that LiteRT has no operators for, an
            unknown precision or suffix, an input without a fixed size.
        OSError: the folder does not exist or cannot be written to.

    Example:
        >>> report = export_model(detector, "detector.tflite", parity_data=images[:8])
        >>> print(report)
    """
    path = Path(path)
    precision = _check(model, path, precision)
    with written_whole(path) as temporary:
        int8 = precision == "int8"
        graph = build_graph(model, split_outputs=int8, mode=context.EXPORT if int8 else context.FLOAT)
        data = convert(graph, precision)
        temporary.write_bytes(append_metadata(data, _metadata(model, graph, class_names)))
        census = take_census(data)
        parity = []
        if parity_data is not None:
            parity = _parity(model, temporary, parity_data, output_steps(data, graph) if int8 else None)
    unsupported = (quantization_of(model) or {}).get("unsupported", {})
    return ExportReport(path, precision, path.stat().st_size, census, dict(unsupported), parity)


def _check(model: Any, path: Path, precision: str | None) -> str:
    if path.suffix != ".tflite":
        raise ValueError(f"Cannot tell the format of {path.name!r}: name a file that ends in .tflite.")
    quantized = quantization_of(model) is not None
    precision = precision or ("int8" if quantized else "float32")
    if precision not in PRECISIONS:
        raise ValueError(f"Unknown precision {precision!r}; it is one of {', '.join(PRECISIONS)}.")
    if precision == "int8" and not quantized:
        raise ValueError(
            f"{model.name!r} is a float model, and int8 needs ranges: call quantize_aware(model) and fine-tune, or "
            "quantize_post_training(model, calibration_data=images), then export again."
        )
    if precision == "int8":
        scheme = quantization_of(model)["scheme"]  # type: ignore[index]
        if scheme["target"] == "tensorrt":
            raise ValueError(
                f"{model.name!r} is quantized with {scheme['name']!r}, whose ranges stand where TensorRT wants "
                "them; LiteRT needs others. Quantize with 'portable_int8' for both, with 'edge_int8' for LiteRT "
                "alone, or export it in float: precision='float32'."
            )
        check_expressible(model)
    unknown = [q.name for q in quantizers_of(model) if not q.has_range] if precision == "int8" else []
    if unknown:
        raise ValueError(
            f"{len(unknown)} ranges of {model.name!r} were never observed (first: {', '.join(unknown[:3])}). Call "
            "calibrate(model, images), or train the quantized model, before exporting it."
        )
    return precision


def _metadata(model: Any, graph: ExportGraph, class_names: Sequence[str] | None) -> dict[str, Any]:
    task = task_of(model)
    return {
        "format": "resnet_backbones",
        "version": 1,
        "task": {"name": "tensors"} if task is None else {"name": task.name, **task.metadata(model)},
        "input": {"shape": list(graph.input_shape), "scale": graph.scale, "offset": graph.offset},
        "outputs": graph.outputs,
        "class_names": None if class_names is None else [str(name) for name in class_names],
    }


def _parity(model: Any, file: Path, parity_data: Any, steps: dict[str, np.ndarray] | None) -> list[OutputParity]:
    """Runs file and model on the same images. The model runs as it would be exported: quantized, or in float."""
    loaded = runtime.load(file)
    exported: dict[str, list[np.ndarray]] = {}
    expected: dict[str, list[np.ndarray]] = {}
    for images in image_batches(parity_data):
        images = np.asarray(images, np.float32)
        for name, value in loaded.raw(images).items():
            exported.setdefault(name, []).append(value)
        with context.use_mode(context.FLOAT if steps is None else context.QUANTIZE):
            outputs = named_outputs(model(images, training=False))
        for name, value in outputs:
            expected.setdefault(name, []).append(np.asarray(value, np.float32))
    if not expected:
        raise ValueError("The parity data is empty, so there is nothing to compare on.")
    steps = steps or {}
    return [
        output_parity(name, np.concatenate(exported[name]), np.concatenate(values), steps.get(name))
        for name, values in expected.items()
    ]
