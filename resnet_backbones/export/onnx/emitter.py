"""Export to ONNX: tf2onnx converts the operators, the passes here make of them what an engine runs in integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from resnet_backbones import runtime
from resnet_backbones.export.contents import FileKernel
from resnet_backbones.export.graph import ExportGraph, build_graph
from resnet_backbones.export.layer_forms import plain_form
from resnet_backbones.export.onnx.census import take_census
from resnet_backbones.export.onnx.convert import to_onnx
from resnet_backbones.export.onnx.fold import fold_scales_and_offsets
from resnet_backbones.export.onnx.forms import matrix_products_as_gemm, name_hard_sigmoids
from resnet_backbones.export.onnx.half import to_half
from resnet_backbones.export.onnx.integers import round_what_is_between
from resnet_backbones.export.onnx.kernels import Kernel, attach, write_kernels
from resnet_backbones.export.onnx.layout import tidy
from resnet_backbones.export.onnx.nodes import Graph
from resnet_backbones.export.onnx.pads import enlarge_outputs, merge_pads
from resnet_backbones.export.onnx.pairs import keep_both_roundings, round_behind_moves
from resnet_backbones.export.onnx.postprocess import check_post_processing, with_post_processing
from resnet_backbones.export.onnx.recurrent import recurrent_layers_unrolled
from resnet_backbones.export.onnx.steps import output_steps
from resnet_backbones.export.onnx.targets import check_target
from resnet_backbones.export.onnx.tensors import computed_tensors, intermediates, names_of_moved
from resnet_backbones.export.onnx.unsigned import (
    convolve_lone_batch_norms,
    make_room_for_biases,
    quantize_biases,
    rectify_by_range,
)
from resnet_backbones.export.request import Emitted, ExportRequest
from resnet_backbones.quantization import context
from resnet_backbones.quantization.float_layers import float_layers
from resnet_backbones.quantization.hooks import hooks_of
from resnet_backbones.runtime.engines.base import file_or_content
from resnet_backbones.runtime.engines.onnxruntime import TYPES
from resnet_backbones.runtime.files.metadata import append_metadata
from resnet_backbones.tasks import task_facts


def check(model: Any, request: ExportRequest) -> None:
    """Refuses what the engine cannot run.

    Args:
        model: a built Keras model.
        request: what is asked for.

    Raises:
        ValueError: bits that Q/DQ do not have, ranges where TensorRT fuses layers, or post-processing of what is no
            detector.
    """
    if request.quantized:
        check_target(model, request.target or "")
    if request.postprocessing:
        check_post_processing(model.name, task_facts(model), request.target or "")


def write(emitted: Emitted, metadata: dict[str, Any], path: Path) -> None:
    """Writes a file with its metadata.

    Args:
        emitted: what :func:`emit` made.
        metadata: see ``runtime.metadata``.
        path: where to.
    """
    path.write_bytes(append_metadata(emitted.data, metadata, "onnx"))


def runner(path: Path, request: ExportRequest) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The file as a function of images, run by the runtime.

    One for TensorRT is run operator by operator, as it is written. Where ONNX Runtime fuses Q and DQ into convolutions
    of integers it rounds their biases, which TensorRT adds in float.
    """
    if not request.quantized or request.target != "tensorrt":
        return runtime.load(path).raw
    outputs = [output.name for output in onnx.load(str(path), load_external_data=False).graph.output]
    run = intermediates(path, outputs)
    return lambda images: {name: values for name, (values, _) in run(images).items()}


def timer(path: Path, threads: int) -> Callable[[], object]:
    """A file as a function of nothing that runs it once on noise, for timing.

    Args:
        path: the file.
        threads: how many to use.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file_or_content(path), options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in entry.shape]
    most = 1 if len(shape) == 4 else 0  # what is no image may be indices
    noise = {entry.name: np.random.default_rng(0).uniform(0, most, shape).astype(TYPES[entry.type])}
    return lambda: session.run(None, noise)


def emit(model: Any, request: ExportRequest) -> Emitted:
    """Makes an ONNX file of a model.

    Input and outputs are float32. An int8 file holds Q/DQ: int8 kernels with a scale an output channel, batch norms
    folded into the scales, and activations rounded where the scheme has a range. For TensorRT these are int8 with zero
    point 0; for ONNX Runtime uint8, and biases are int32.

    Args:
        model: a built Keras model; quantized, with every range known, if int8 is asked for.
        request: what is asked for.

    Raises:
        ValueError: the target cannot run the quantized model, or ONNX has no form of an operation.

    Source: ONNX, QuantizeLinear and DequantizeLinear, https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html; NVIDIA,
    "Working with Quantized Types", https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
    """
    for_runtime = request.target == "onnxruntime"
    owned = [(found.layer, pair) for found in hooks_of(model) for pair in found.kernels.values()]
    quantizers = [pair for _, pair in owned] if request.quantized else []
    with context.use_view(request.view), recurrent_layers_unrolled(model):
        traced = build_graph(
            model,
            split_outputs=False,
            mode=context.EXPORT_PLAIN if request.quantized else context.FLOAT,
            batch=request.batch,
            input_shape=request.input_shape,
            kernels=[(quantizer, tuple(variable.shape)) for variable, quantizer in quantizers],
            forms=plain_form,
        )
    graph = tidy(to_onnx(traced, layout=request.layout, signed=not for_runtime))
    given = [quantizer.integers(variable) for variable, quantizer in quantizers]
    bits = {name: quantizer.bits for name, (_, quantizer) in zip(traced.kernel_names, quantizers, strict=True)}
    kernels = attach(graph, dict(zip(traced.kernel_names, given, strict=True)), bits)
    layers = {name: layer for name, (layer, _) in zip(traced.kernel_names, owned, strict=False)}
    written_kernels = _improve(graph, kernels, layers, _in_float(model, traced), for_runtime=for_runtime)
    _name_batch(graph, request.batch)
    graph.merge_equal_constants()
    written = to_half(graph.to_model()) if request.precision == "float16" else graph.to_model()
    onnx.checker.check_model(written, full_check=True)
    metadata = traced.metadata
    metadata["input"] |= {"layout": request.layout}
    whole = Graph(written)
    traced.sources.rename({**names_of_moved(whole), **traced.returned})  # type: ignore[union-attr]  # it is traced
    emitted = Emitted(written.SerializeToString(), take_census(whole), metadata, sources=traced.sources)
    emitted.tensors, emitted.exact_names = computed_tensors(whole, request.layout), True
    if request.quantized:
        emitted.steps, emitted.kernels = output_steps(graph), written_kernels
    return with_post_processing(emitted, task_facts(model)) if request.postprocessing else emitted


def _improve(
    graph: Graph,
    kernels: dict[str, Kernel],
    layers: dict[str, Any],
    in_float: Callable[[str], bool],
    *,
    for_runtime: bool,
) -> list[FileKernel]:
    """Runs the passes; they rely on this order."""
    enlarge_outputs(graph)
    name_hard_sigmoids(graph)
    matrix_products_as_gemm(graph, kernels)
    fold_scales_and_offsets(graph, kernels)
    merge_pads(graph)
    if for_runtime:
        convolve_lone_batch_norms(graph, kernels, in_float)
        rectify_by_range(graph)
        round_what_is_between(graph)
    round_behind_moves(graph, for_runtime=for_runtime)
    make_room_for_biases(graph, kernels)
    if for_runtime:
        keep_both_roundings(graph)
        quantize_biases(graph, kernels)
    written = write_kernels(graph, kernels, layers)
    graph.remove_unused()
    return written


def _in_float(model: Any, traced: ExportGraph) -> Callable[[str], bool]:
    """Whether a tensor is the result of a layer of a quantized model that stays in float."""
    floats = {id(layer) for layer in (float_layers(model) if hooks_of(model) else ())}

    def in_float(name: str) -> bool:
        call = traced.sources.call_of(name)  # type: ignore[union-attr]  # it is traced
        return call is not None and id(call.layer) in floats

    return in_float


def _name_batch(graph: Graph, batch: int | None) -> None:
    """Calls an open number of images ``batch`` at all ends."""
    for end in [*graph.inputs, *graph.outputs]:
        size = end.type.tensor_type.shape.dim[0]
        size.Clear()
        if batch is None:
            size.dim_param = "batch"
        else:
            size.dim_value = batch
