"""What the operators of a graph are to TensorRT, and where int8 reaches them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_backbones.export.tensorrt.graph import DEQUANTIZE, QUANTIZE, Graph, Node

CONVOLUTIONS = ("Conv", "ConvTranspose")
WEIGHTED = (*CONVOLUTIONS, "Gemm", "MatMul")
ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Tanh"),
    *("Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus", "Softsign"),
)
AVERAGING = ("AveragePool", "GlobalAveragePool", "ReduceMean")
LARGEST = ("MaxPool", "GlobalMaxPool")
# What only moves or picks values gives the same before and after Q and DQ: it "commutes".
MOVING = (
    *LARGEST,
    *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "DepthToSpace", "SpaceToDepth"),
    *("Expand", "Gather", "Slice", "Split", "Tile"),
)


@dataclass(frozen=True)
class WeightedLayer:
    """A convolution or matrix product with a kernel.

    Attributes:
        node: the operator.
        data: tensor it reads.
        kernel: tensor it multiplies by.
        axis: the kernel's axis of output channels.
        kernel_dq: the DequantizeLinear the kernel comes from, ``None`` in float.
        between: operators between that and the layer.
        kernel_source: the tensor at the kernel's root: the initializer, where there is one.
    """

    node: Node
    data: str
    kernel: str
    axis: int
    kernel_dq: Node | None
    between: list[Node]
    kernel_source: str


def weighted_layers(graph: Graph) -> list[WeightedLayer]:
    """All layers with kernels. A product of two activations (attention) has none and is not among them."""
    found = []
    for node in graph.of(*WEIGHTED):
        position = 1
        if node.op == "MatMul" and not graph.from_constants(node.input(1)):
            position = 0
        if node.op == "MatMul" and not graph.from_constants(node.input(position)):
            continue
        kernel = node.input(position)
        dq, between, source = _kernel_path(graph, kernel)
        axis = _output_axis(node, position, len(graph.dims(source) or (0, 0)))
        found.append(WeightedLayer(node, node.input(1 - position), kernel, axis, dq, between, source))
    return found


def _output_axis(node: Node, position: int, rank: int) -> int:
    if node.op == "MatMul":
        return rank - 1 if position == 1 else max(rank - 2, 0)
    if node.op == "Gemm":
        return 0 if node.attributes.get("transB", 0) else 1
    return 1 if node.op == "ConvTranspose" else 0


def _kernel_path(graph: Graph, kernel: str) -> tuple[Node | None, list[Node], str]:
    """The first DQ behind a kernel, what stands before it, and where it all starts."""
    dq, between, tensor = None, [], kernel
    while (node := graph.producer(tensor)) is not None:
        if node.op == DEQUANTIZE and dq is None:
            dq = node
        elif dq is None:
            between.append(node)
        moved = [] if node.op in (QUANTIZE, DEQUANTIZE) else [one for one in node.inputs if not graph.is_constant(one)]
        tensor = moved[0] if moved else node.input(0)
    return dq, (between if dq else []), tensor


def is_int8(graph: Graph, layer: WeightedLayer) -> bool:
    """Whether TensorRT can run the layer in int8: input and kernel both come out of a DequantizeLinear."""
    return layer.kernel_dq is not None and not layer.between and dequantized(graph, layer.data) is not None


def dequantized(graph: Graph, tensor: str) -> Node | None:
    """The DequantizeLinear a tensor comes from, directly or through what commutes with it; ``None`` in float."""
    while (node := graph.producer(tensor)) is not None:
        if node.op == DEQUANTIZE:
            return node
        if not _commutes(graph, node):
            return None
        tensor = node.input(0)
    return None


def _commutes(graph: Graph, node: Node) -> bool:
    if node.op in MOVING:
        return True
    if node.op == "Pad":  # zeros stay zeros: zero points are 0
        value = graph.value(node.input(2)) if node.input(2) else np.zeros(1)
        return node.attributes.get("mode", b"constant") == b"constant" and value is not None and not np.any(value)
    return node.op == "Resize" and node.attributes.get("mode", b"nearest") == b"nearest"


def quantized_next(graph: Graph, tensor: str) -> list[Node]:
    """The QuantizeLinears a tensor ends in, behind activations and what commutes; ``[]`` where one way has none."""
    found: list[Node] = []
    pending, seen = [tensor], set()
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        readers = graph.consumers(one)
        if one in graph.outputs or not readers:
            return []
        for node in readers:
            if node.op == QUANTIZE:
                found.append(node)
            elif node.op in ACTIVATIONS or _commutes(graph, node) or node.op == "Mul":  # a SiLU ends in Mul
                pending += node.outputs
            else:
                return []
    return found


def without_pairs(graph: Graph, tensor: str) -> str:
    """The tensor that a QuantizeLinear and DequantizeLinear were put on, if any."""
    while (dq := graph.made_by(tensor, DEQUANTIZE)) and (q := graph.made_by(dq.input(0), QUANTIZE)):
        tensor = q.input(0)
    return tensor


def readers_behind_pairs(graph: Graph, tensor: str) -> list[Node]:
    """The nodes that read a tensor, quantized or not."""
    found: list[Node] = []
    for node in graph.consumers(tensor):
        found += readers_behind_pairs(graph, node.output) if node.op in (QUANTIZE, DEQUANTIZE) else [node]
    return found


def scale_of(graph: Graph, node: Node) -> np.ndarray | None:
    """The scale of a QuantizeLinear or DequantizeLinear."""
    return graph.value(node.input(1))


def same_scale(graph: Graph, first: Node, second: Node) -> bool:
    """Whether two quantizers have one scale; what cannot be read counts as equal, other rules name it."""
    one, other = scale_of(graph, first), scale_of(graph, second)
    if one is None or other is None:
        return True
    return one.size == other.size and bool(np.array_equal(one.reshape(-1), other.reshape(-1)))
