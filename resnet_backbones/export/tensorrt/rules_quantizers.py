"""Rules on the file as a whole, and on Q and DQ themselves: types, scales, zero points and how they pair up."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx

from resnet_backbones.export.tensorrt.findings import (
    DEQUANTIZE_PAGE,
    DYNAMIC_SHAPES,
    LIMITATIONS,
    ONNX_SUPPORT,
    OPSETS,
    PARSER,
    PLACEMENT,
    PROCESSING,
    QUANTIZE_PAGE,
    Found,
    rule,
)
from resnet_backbones.export.tensorrt.graph import (
    DEQUANTIZE,
    QUANTIZE,
    FileGraph,
    FileNode,
    is_int8,
    same_scale,
    scale_of,
    type_name,
    weighted_layers,
)

FIRST_OPSET, WANTED_OPSET, LAST_OPSET = 13, 17, 25
_T = onnx.TensorProto
DTYPES = {_T.FLOAT, _T.FLOAT16, _T.BFLOAT16, _T.INT64, _T.INT32, _T.INT8, _T.UINT8, _T.BOOL}
# ONNX's other way to write int8, with the arithmetic spelt out.
QUANTIZED_OPERATORS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


@rule("valid", PARSER)
def valid(graph: FileGraph) -> Found:
    """A parser reads nothing from a file that is not ONNX by ONNX's own rules."""
    if not graph.in_order:
        yield "error", "graph", "nodes stand before what they read, or in circles: export it again."
        return
    if graph.missing:
        return  # what cannot be read cannot be checked: `external-data` says so
    try:
        onnx.checker.check_model(graph.model)
    except onnx.checker.ValidationError as error:
        yield "error", "graph", f"onnx.checker refuses the file: {str(error).splitlines()[0]} Export it again."


@rule("opset", OPSETS)
def opset(graph: FileGraph) -> Found:
    """A scale a channel needs the axis of opset 13; TensorRT 11 reads up to opset 25."""
    if graph.opset < FIRST_OPSET:
        yield "error", "graph", f"opset {graph.opset} has no axis for scales: export with opset {WANTED_OPSET}."
    elif graph.opset < WANTED_OPSET:
        yield "warning", "graph", f"opset {graph.opset} is old: export with opset {WANTED_OPSET}."
    elif graph.opset > LAST_OPSET:
        yield "warning", "graph", f"opset {graph.opset} is newer than TensorRT 11 reads ({LAST_OPSET})."


@rule("operators", ONNX_SUPPORT)
def operators(graph: FileGraph) -> Found:
    """TensorRT reads Q/DQ only, and refuses integer operators and those of other vendors."""
    for node in graph.nodes:
        if node.op in QUANTIZED_OPERATORS:
            yield "error", node.name, f"{node.op} is not read: write the float operator between Q and DQ instead."
        elif node.domain not in ("", "ai.onnx"):
            yield "error", node.name, f"{node.domain}.{node.op} needs a plugin: use operators of ONNX itself."
        elif (problem := _unread_form(node)) is not None:
            yield "error", node.name, f"{node.op} {problem}."


def _unread_form(node: FileNode) -> str | None:
    """What of an operator the parser does not take, by its table of operators."""
    dilations = node.attributes.get("dilations", [])
    if node.op in ("MaxPool", "AveragePool") and any(one != 1 for one in dilations):
        return "with dilations is not read: use one without"
    if node.op == "MaxPool" and len(node.outputs) > 1 and node.outputs[1]:
        return "cannot give indices: leave its second output out"
    if node.op == "TopK" and not node.attributes.get("sorted", 1):
        return "must be sorted: set sorted to 1"
    return None


@rule("external-data", PARSER)
def external_data(graph: FileGraph) -> Found:
    """Weights beside the file get lost; what was lost cannot be parsed."""
    if graph.missing:
        yield "error", "graph", f"weights beside the file cannot be read ({graph.missing}): copy both files together."
    elif graph.external:
        yield (
            "warning",
            "graph",
            f"{len(graph.external)} weights are beside the file: keep both together, or save them in one.",
        )


@rule("dtypes", PARSER)
def dtypes(graph: FileGraph) -> Found:
    """Other types of number are not read, or only after a Cast."""
    values = [*graph.model.graph.input, *graph.model.graph.output, *graph.model.graph.value_info]
    typed = [(one.name, one.type.tensor_type.elem_type) for one in values]
    typed += [(name, tensor.data_type) for name, tensor in graph.initializers.items()]
    typed += [(node.name, node.attributes.get("to", 0)) for node in graph.of("Cast")]
    for name, kind in dict.fromkeys(typed):
        if kind and kind not in DTYPES:
            severity = "warning" if kind == _T.DOUBLE else "error"  # computed in float32
            yield severity, name, f"{type_name(kind)} is not among TensorRT's types: use FLOAT or INT32."


@rule("dynamic-shapes", DYNAMIC_SHAPES)
def dynamic_shapes(graph: FileGraph) -> Found:
    """Open sizes need an optimization profile, and kernels chosen for a range are slower."""
    for one in graph.model.graph.input:
        if one.name not in graph.inputs:
            continue
        open_axes = [i for i, dim in enumerate(one.type.tensor_type.shape.dim) if not dim.HasField("dim_value")]
        if [axis for axis in open_axes if axis > 0]:
            yield "warning", one.name, f"axes {open_axes} are open: fix all but the batch, or give a profile with each."


@rule("in-int8", PLACEMENT)
def in_int8(graph: FileGraph) -> Found:
    """Without Q/DQ nothing runs in int8; the last layers may stay in float."""
    if not any(graph.of(QUANTIZE)):
        yield "warning", "graph", "no QuantizeLinear at all: everything runs in float. Quantize the model first."
        return
    layers = weighted_layers(graph)
    int8 = {id(layer.node) for layer in layers if is_int8(graph, layer)}
    for layer in layers:
        if layer.kernel_dq is not None:
            continue
        if any(id(node) in int8 for node in graph.downstream(layer.node.output)):
            yield "warning", layer.node.name, f"{layer.node.op} runs in float before int8 layers: quantize it too."
        else:
            yield "info", layer.node.name, f"{layer.node.op} runs in float, as the last layers may."


@rule("int8", ONNX_SUPPORT)
def int8(graph: FileGraph) -> Found:
    """TensorRT's 8-bit integers are signed; uint8 is refused."""
    for node in graph.of(QUANTIZE, DEQUANTIZE):
        kind = _quantized_type(graph, node)
        if kind == _T.UINT8 and not node.input(2) and node.op == QUANTIZE:
            yield "error", node.name, "without a zero point ONNX means uint8: give it an int8 zero point of 0."
        elif kind not in (None, _T.INT8):
            yield "error", node.name, f"quantizes to {type_name(kind)}: use INT8, symmetric, zero point 0."


def for_onnxruntime(graph: FileGraph) -> bool:
    """Whether a file is in the form of ONNX Runtime's fast kernels: all that Q rounds becomes uint8."""
    kinds = [_quantized_type(graph, node) for node in graph.of(QUANTIZE)]
    return len(kinds) > 1 and set(kinds) == {_T.UINT8}


def _quantized_type(graph: FileGraph, node: FileNode) -> int | None:
    """The integer type of a Q or DQ; ``None`` where only the tensor it reads could tell."""
    if node.input(2):
        return graph.dtype(node.input(2))
    if node.op == QUANTIZE:
        return node.attributes.get("output_dtype", 0) or _T.UINT8
    return graph.dtype(node.input(0))


@rule("zero-points", QUANTIZE_PAGE)
def zero_points(graph: FileGraph) -> Found:
    """Quantization is symmetric: a real 0 is the integer 0."""
    for node in graph.of(QUANTIZE, DEQUANTIZE):
        zero, scale = graph.value(node.input(2)), graph.dims(node.input(1))
        if zero is None:
            continue
        if np.any(zero):
            yield "error", node.name, f"zero point {zero.reshape(-1)[:3].tolist()}: quantize symmetrically, all zeros."
        elif scale is not None and zero.size != int(np.prod(scale)):
            yield "error", node.name, f"{zero.size} zero points for {int(np.prod(scale))} scales: as many as scales."


@rule("scales", DEQUANTIZE_PAGE)
def scales(graph: FileGraph) -> Found:
    """A scale divides: each must be finite and above 0."""
    for node in graph.of(QUANTIZE, DEQUANTIZE):
        scale = scale_of(graph, node)
        if scale is None:
            continue
        bad = ~(np.isfinite(scale.astype(np.float64)) & (scale > 0))
        if np.any(bad) or scale.size == 0:
            first = scale[bad].reshape(-1)[:1].tolist()
            yield "error", node.name, f"{int(np.sum(bad))} scales like {first}: raise scales of dead channels above 0."


@rule("constant-scales", QUANTIZE_PAGE)
def constant_scales(graph: FileGraph) -> Found:
    """Scales and zero points are chosen when the engine is built."""
    for node in graph.of(QUANTIZE, DEQUANTIZE):
        for what, tensor in (("scale", node.input(1)), ("zero point", node.input(2))):
            if tensor and not graph.is_constant(tensor):
                yield "error", node.name, f"its {what} {tensor} is computed: store it as an initializer."


@rule("per-tensor", PLACEMENT)
def per_tensor(graph: FileGraph) -> Found:
    """Activations have one scale a tensor; a scale a channel is for kernels."""
    for node in graph.of(QUANTIZE, DEQUANTIZE):
        count = int(np.prod(graph.dims(node.input(1)) or (1,)))
        if count != 1 and not graph.from_constants(node.input(0)):
            yield "error", node.name, f"{count} scales on an activation: use one, the largest."


@rule("pairs", PROCESSING)
def pairs(graph: FileGraph) -> Found:
    """A Q and the DQ behind it are what a layer absorbs; one without the other is left over."""
    for q in graph.of(QUANTIZE):
        readers = graph.consumers(q.output)
        if q.output in graph.outputs:
            yield "warning", q.name, "its integers are an output of the model: end with a DequantizeLinear."
        elif not readers:
            yield "error", q.name, "no DequantizeLinear behind it: add one, or remove it."
        for node in readers:
            if node.op != DEQUANTIZE:
                yield "error", q.name, f"its integers go to {node.op} {node.name}: put the DequantizeLinear before it."
            elif not same_scale(graph, q, node):
                yield "error", node.name, f"its scale differs from that of {q.name}: give both the same."
    for dq in graph.of(DEQUANTIZE):
        if not graph.consumers(dq.output) and dq.output not in graph.outputs:
            yield "error", dq.name, "nothing reads it: remove it and its QuantizeLinear."
        source = graph.producer(dq.input(0))
        if source is not None and source.op != QUANTIZE:
            yield "error", dq.name, f"{source.op} {source.name} stands between it and its QuantizeLinear: move it out."


@rule("requantized", PROCESSING)
def requantized(graph: FileGraph) -> Found:
    """A DQ that runs into the next Q is no layer's: values are rounded twice, in a kernel of its own."""
    for q in graph.of(QUANTIZE):
        dq = graph.made_by(q.input(0), DEQUANTIZE)
        if dq is None:
            continue
        if same_scale(graph, dq, q):
            yield "warning", q.name, f"quantizes again what {dq.name} gives, with its scale: remove this pair."
        else:
            yield "error", q.name, f"quantizes again what {dq.name} gives, with another scale: keep one of the two."


@rule("one-scale", LIMITATIONS)
def one_scale(graph: FileGraph) -> Found:
    """Qs on one tensor move up to its layer only where their scales are equal."""
    readers: dict[str, list[FileNode]] = defaultdict(list)
    for q in graph.of(QUANTIZE):
        readers[q.input(0)].append(q)
    for tensor, quantizers in readers.items():
        for other in quantizers[1:]:
            if not graph.from_constants(tensor) and not same_scale(graph, quantizers[0], other):
                yield "warning", other.name, f"{tensor} has another scale in {quantizers[0].name}: use one for both."


@rule("foldable", ONNX_SUPPORT)
def foldable(graph: FileGraph) -> Found:
    """A Q on an initializer is folded when building; what else makes a constant may not be."""
    kernels = {layer.kernel_source for layer in weighted_layers(graph)}
    for q in graph.of(QUANTIZE):
        if graph.is_constant(q.input(0)):
            what = "kernel" if q.input(0) in kernels else "constant"
            yield "info", q.name, f"a float {what}: store it in int8 behind a DQ, a quarter of the size."
        elif graph.from_constants(q.input(0)):
            yield "error", q.name, f"its constant {q.input(0)} is computed: fold it into an initializer."
