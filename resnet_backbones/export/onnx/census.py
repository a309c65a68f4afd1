"""What is in an ONNX file: operators, the type each computes in, multiply-accumulates."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from resnet_backbones.export.contents import Census, Operator
from resnet_backbones.export.onnx.kernels import WEIGHTED
from resnet_backbones.export.onnx.nodes import Graph, Node
from resnet_backbones.export.onnx.pairs import MOVES

_MOVED = (*MOVES, "Concat", "Max", "Min")
# Loops, transforms and products of which the sizes do not tell how much they compute.
_OPAQUE = (
    "Attention", "ConvInteger", "DFT", "DeformConv", "Det", "Einsum", "GRU", "If", "LSTM", "Loop", "MatMulInteger",
    "QLinearConv", "QLinearMatMul", "RNN", "STFT", "Scan", "SequenceMap",
)  # fmt: skip
_PAIRS = ("QuantizeLinear", "DequantizeLinear")
_ELEMENTWISE = (
    "Add", "BatchNormalization", "Clip", "Div", "Elu", "Erf", "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "Min",
    "Mul", "PRelu", "Relu", "Selu", "Sigmoid", "Sub", "Tanh",
)  # fmt: skip


def take_census(graph: Graph, in_float: Collection[str] = ()) -> Census:
    """Counts what is in a graph.

    Q/DQ are no operators: they say that their neighbours compute in integers. An operator does so if all the data it
    reads is dequantized, or if it is an elementwise operator that an engine runs in the kernel of such an operator
    before it.

    Args:
        graph: as written to the file.
        in_float: outputs of the operators that compute in float, whatever they read.
    """
    images = graph.inputs[0].type.tensor_type.shape.dim[0].dim_value or None
    shapes = graph.shapes(images=images or 1)
    rounded: set[str] = set()  # tensors of integers times a scale
    summed: set[str] = set()  # what a kernel that computes in integers holds before it rounds
    whole = {name for name, value in graph.constants.items() if value.dtype.kind in "iu"}
    census = Census()
    for node in graph.in_order():
        data = {name for name in node.inputs if name and name not in graph.constants}
        if node.kind in _PAIRS:
            rounded.update(node.outputs)
            census.rounded[node.output] = node.inputs[0]
            continue
        if _is_about_shapes(node, whole):
            whole.update(node.outputs)
            dtype = "int32"
        elif node.output not in in_float and _computes_in_integers(graph, node, data, rounded, summed):
            dtype = "int8"
            (rounded if node.kind in _MOVED and data <= rounded else summed).update(node.outputs)
        else:
            dtype = _float_type(graph, node)
        macs = _macs(node, shapes) // (images or 1)
        census.operators.append(Operator(node.kind, dtype, node.output, macs, tuple(node.inputs)))
        if node.kind in _OPAQUE or node.domain not in ("", "ai.onnx"):
            census.opaque.append(census.operators[-1])
    return census


def _is_about_shapes(node: Node, whole: set[str]) -> bool:
    """Whether a node computes with sizes rather than with data."""
    return node.kind == "Shape" or (bool(node.inputs) and all(not name or name in whole for name in node.inputs))


def _computes_in_integers(graph: Graph, node: Node, data: set[str], rounded: set[str], summed: set[str]) -> bool:
    known = rounded | summed if node.kind in (*_ELEMENTWISE, *MOVES) else rounded
    return data <= known and _kernel_is_rounded(graph, node)


def _kernel_is_rounded(graph: Graph, node: Node) -> bool:
    """Whether a weighted node's kernel is dequantized too; true of all other nodes."""
    return node.kind not in WEIGHTED or node.inputs[1] not in graph.constants


def _float_type(graph: Graph, node: Node) -> str:
    for name in node.inputs:
        if name in graph.constants and graph.constants[name].dtype.kind == "f":
            return str(graph.constants[name].dtype)
    return "float32"


def _macs(node: Node, shapes: dict[str, list[int | None]]) -> int:
    """Of all images; a matrix product's rows may be pixels or tokens of all of them."""
    if node.kind not in WEIGHTED:
        return 0
    data, kernel, output = (shapes.get(name) for name in (*node.inputs[:2], node.output))
    if node.kind == "ConvTranspose":
        return 0 if data is None or kernel is None else _product(data) * _product(kernel[1:])
    if node.kind == "Conv":
        return 0 if output is None or kernel is None else _product(output) * _product(kernel[1:])
    return 0 if output is None or data is None else _product(output) * _product(data[-1:])


def _product(sizes: list[int | None]) -> int:
    return int(np.prod([size or 1 for size in sizes]))
