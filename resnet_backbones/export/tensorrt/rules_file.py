"""Rules on the file as a whole: what TensorRT's parser takes."""

from __future__ import annotations

import onnx

from resnet_backbones.export.tensorrt.findings import (
    DYNAMIC_SHAPES,
    ONNX_SUPPORT,
    OPSETS,
    PARSER,
    PLACEMENT,
    Found,
    rule,
)
from resnet_backbones.export.tensorrt.graph import QUANTIZE, Graph, Node, type_name
from resnet_backbones.export.tensorrt.structure import is_int8, weighted_layers

FIRST_OPSET, WANTED_OPSET, LAST_OPSET = 13, 17, 25
_T = onnx.TensorProto
DTYPES = {_T.FLOAT, _T.FLOAT16, _T.BFLOAT16, _T.INT64, _T.INT32, _T.INT8, _T.UINT8, _T.BOOL}
# ONNX's other way to write int8, with the arithmetic spelt out.
QUANTIZED_OPERATORS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


@rule("valid", PARSER)
def valid(graph: Graph) -> Found:
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
def opset(graph: Graph) -> Found:
    """A scale a channel needs the axis of opset 13; TensorRT 11 reads up to opset 25."""
    if graph.opset < FIRST_OPSET:
        yield "error", "graph", f"opset {graph.opset} has no axis for scales: export with opset {WANTED_OPSET}."
    elif graph.opset < WANTED_OPSET:
        yield "warning", "graph", f"opset {graph.opset} is old: export with opset {WANTED_OPSET}."
    elif graph.opset > LAST_OPSET:
        yield "warning", "graph", f"opset {graph.opset} is newer than TensorRT 11 reads ({LAST_OPSET})."


@rule("operators", ONNX_SUPPORT)
def operators(graph: Graph) -> Found:
    """TensorRT reads Q/DQ only, and refuses integer operators and those of other vendors."""
    for node in graph.nodes:
        if node.op in QUANTIZED_OPERATORS:
            yield "error", node.name, f"{node.op} is not read: write the float operator between Q and DQ instead."
        elif node.domain not in ("", "ai.onnx"):
            yield "error", node.name, f"{node.domain}.{node.op} needs a plugin: use operators of ONNX itself."
        elif (problem := _unread_form(node)) is not None:
            yield "error", node.name, f"{node.op} {problem}."


def _unread_form(node: Node) -> str | None:
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
def external_data(graph: Graph) -> Found:
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
def dtypes(graph: Graph) -> Found:
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
def dynamic_shapes(graph: Graph) -> Found:
    """Open sizes need an optimization profile, and kernels chosen for a range are slower."""
    for one in graph.model.graph.input:
        if one.name not in graph.inputs:
            continue
        open_axes = [i for i, dim in enumerate(one.type.tensor_type.shape.dim) if not dim.HasField("dim_value")]
        if [axis for axis in open_axes if axis > 0]:
            yield "warning", one.name, f"axes {open_axes} are open: fix all but the batch, or give a profile with each."


@rule("in-int8", PLACEMENT)
def in_int8(graph: Graph) -> Found:
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
