"""Conversion to LiteRT (``.tflite``), and the names of inputs and outputs in the file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from resnet_backbones import runtime
from resnet_backbones.export.convolutions import dilated_transposes_spread
from resnet_backbones.export.graph import ExportGraph, build_graph
from resnet_backbones.export.layer_forms import any_form, enlarged_form, flat_form
from resnet_backbones.export.litert.census import take_census
from resnet_backbones.export.litert.exact_scales import with_exact_scales
from resnet_backbones.export.litert.file import computed_tensors, file_kernels, intermediates, timer
from resnet_backbones.export.litert.flatbuffer import Appender, read_model, write_model
from resnet_backbones.export.litert.general_sums import with_general_sums
from resnet_backbones.export.litert.integer_ends import reads_nothing, with_integer_ends
from resnet_backbones.export.litert.left_in_float import float_forms, without_detours
from resnet_backbones.export.litert.metadata import with_standard_metadata
from resnet_backbones.export.litert.number_forms import number_form
from resnet_backbones.export.litert.postprocess import check_post_processing, with_post_processing
from resnet_backbones.export.litert.switched_off import with_own_factors
from resnet_backbones.export.litert.wide_biases import with_wide_biases
from resnet_backbones.export.problems import name_operations
from resnet_backbones.export.request import QUANTIZED, Emitted, ExportRequest
from resnet_backbones.quantization import context, quantization_of
from resnet_backbones.quantization.expressible import check_expressible
from resnet_backbones.quantization.hooks import quantizers_of
from resnet_backbones.runtime.files.metadata import append_metadata
from resnet_backbones.runtime.outputs import Output, joined, part_names
from resnet_backbones.tasks import task_facts

__all__ = ["check", "convert", "emit", "intermediates", "output_steps", "runner", "timer", "write"]


def check(model: Any, request: ExportRequest) -> None:
    """Refuses what LiteRT has no integers for.

    Args:
        model: a built Keras model.
        request: what is asked for.

    Raises:
        ValueError: the model's ranges stand where another target wants them, or have bits LiteRT does not.
    """
    if request.postprocessing:
        check_post_processing(model.name, task_facts(model), request.batch)
    if request.precision == "int16x8" and request.preprocessing is not None:
        raise ValueError("A file with int16 activations takes images preprocessed: leave preprocessing out.")
    if not request.quantized:
        return
    scheme = quantization_of(model)["scheme"]  # type: ignore[index]
    if scheme["target"] == "tensorrt":
        raise ValueError(
            f"{model.name!r} is quantized with {scheme['name']!r}, whose ranges stand where TensorRT wants "
            "them; LiteRT needs others. Quantize with 'portable_int8' for both, with 'edge_int8' for LiteRT "
            "alone, or export it in float: precision='float32'."
        )
    check_expressible(model)


def write(emitted: Emitted, metadata: dict[str, Any], path: Path) -> None:
    """Writes a file with its metadata.

    Args:
        emitted: what :func:`emit` made.
        metadata: see ``runtime.metadata``.
        path: where to.
    """
    path.write_bytes(append_metadata(with_standard_metadata(emitted.data, metadata), metadata))


def runner(path: Path, _: ExportRequest) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The file as a function of images, run by the runtime."""
    return runtime.load(path).raw


def emit(model: Any, request: ExportRequest) -> Emitted:
    """Makes a LiteRT file of a model.

    Args:
        model: a built Keras model; quantized, with every range known, if int8 is asked for.
        request: what is asked for.
    """
    mode = context.EXPORT if request.quantized else context.FLOAT
    with dilated_transposes_spread(model):
        graph = build_graph(
            model,
            split_outputs=request.quantized,
            mode=mode,
            batch=request.batch,
            input_shape=request.input_shape,
            preprocessing=request.preprocessing,
            forms=_forms(model) if request.quantized else any_form,
        )
    data = convert(graph, request.precision, uint8_input=request.quantized and request.preprocessing is not None)
    if request.quantized:
        data = with_own_factors(data, graph.sources)
        data = with_general_sums(with_exact_scales(with_wide_biases(data, graph.sources)))
    emitted = Emitted(data, take_census(data), graph.metadata, tensors=computed_tensors(data), sources=graph.sources)
    if request.quantized:
        emitted.steps, emitted.kernels = output_steps(data, graph), list(file_kernels(data))
    if not request.postprocessing:
        return emitted
    data, facts = with_post_processing(data, graph, task_facts(model), graph.network_size)
    return replace(emitted, data=data, census=take_census(data), metadata={**graph.metadata, **facts}, bare=emitted)


def _forms(model: Any) -> Callable[[Any], Callable[..., Any] | None]:
    """What to call in place of a quantized model's layers. With 16 bits LiteRT has no tiles, nor biases of sums."""
    in_float, wide = float_forms(model), any(quantizer.bits == 16 for quantizer in quantizers_of(model))
    return lambda layer: (
        in_float(layer)
        or any_form(layer)
        or flat_form(layer)
        or (enlarged_form(layer) or number_form(layer) if wide else None)
    )


def convert(graph: ExportGraph, precision: str, *, uint8_input: bool = False) -> bytes:
    """Converts the function to a LiteRT file.

    Args:
        graph: what :func:`build_graph` made.
        precision: ``"float32"``, ``"float16"`` (weights stored as float16), ``"dynamic_range"`` (weights stored as
            int8, data float), ``"int8"`` or ``"int16x8"`` (the function holds fake quantization; input and outputs are
            integers too, int16 where the quantization has 16 bits).
        uint8_input: take pixels as uint8 in an int8 file.

    Returns:
        The file's bytes, with a ``serving_default`` signature that names input and outputs.
    """
    # No Keras object as second argument: the converter then freezes the function itself, which keeps the ranges
    # constants; and no representative data: every range is in the function.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.function])
    try:
        return _converted(converter, graph, precision, uint8_input)
    except Exception as error:
        name_operations(error, graph.function.graph)
        raise


def _converted(converter: Any, graph: ExportGraph, precision: str, uint8_input: bool) -> bytes:
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision not in QUANTIZED:
        return _with_signature(converter.convert(), graph)
    with warnings.catch_warnings():
        # Asks for the input's range, which the function holds.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        return _with_signature(without_detours(_converted_to_integers(converter, graph, uint8_input)), graph)


def _converted_to_integers(converter: Any, graph: ExportGraph, uint8_input: bool) -> bytes:
    if not _has_int16(graph):
        converter.inference_input_type = tf.uint8 if uint8_input else tf.int8
        converter.inference_output_type = tf.int8
        data = converter.convert()
        if not reads_nothing(data):
            return data
        converter.inference_input_type = converter.inference_output_type = tf.float32
    return with_integer_ends(converter.convert(), uint8_input=uint8_input)


def _has_int16(graph: ExportGraph) -> bool:
    """Whether the function holds fake quantization to 16 bits."""
    operations = graph.function.graph.get_operations()
    return any(op.type.startswith("FakeQuant") and op.get_attr("num_bits") == 16 for op in operations)


def _with_signature(data: bytes, graph: ExportGraph) -> bytes:
    model = read_model(data)
    subgraph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [Appender.tensor_map(graph.input_name, subgraph.inputs[0])]
    signature.outputs = [Appender.tensor_map(n, i) for n, i in zip(graph.part_names, subgraph.outputs, strict=True)]
    model.signatureDefs = [signature]
    return write_model(model)


def output_steps(data: bytes, graph: ExportGraph) -> dict[str, np.ndarray]:
    """The size of one int8 step of every value of every output, parts joined as the runtime joins them.

    Returns:
        Output name -> array of the output's shape (batch 1); outputs that are not quantized are left out.
    """
    subgraph = read_model(data).subgraphs[0]
    steps = {}
    for name, index in zip(graph.part_names, subgraph.outputs, strict=True):
        tensor = subgraph.tensors[index]
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            steps[name] = Output(np.full((1, *tensor.shape[1:]), tensor.quantization.scale[0], np.float32))
    return {
        output["name"]: joined(output, steps).floats()
        for output in graph.outputs
        if all(part in steps for part in part_names(output))
    }
