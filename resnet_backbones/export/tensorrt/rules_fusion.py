"""Rules on where Q and DQ would keep layers from running as one kernel."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_backbones.export.tensorrt.findings import PLACEMENT, PROCESSING, Found, rule
from resnet_backbones.export.tensorrt.graph import DEQUANTIZE, QUANTIZE, Graph, Node
from resnet_backbones.export.tensorrt.structure import (
    ACTIVATIONS,
    WEIGHTED,
    dequantized,
    is_int8,
    readers_behind_pairs,
    weighted_layers,
    without_pairs,
)

_NORM = "BatchNormalization"
FLOAT_ONLY = (
    *("Softmax", "LogSoftmax", "Exp", "Log", "Sqrt", "Pow", "Erf", "LayerNormalization", "InstanceNormalization"),
    *("TopK", "ArgMax", "NonMaxSuppression", "Cast"),
)


def _fuses(graph: Graph, node: Node, *ops: str) -> tuple[Node, bool] | None:
    """The layer of these operators that a node could run in the kernel of, and whether Q/DQ stand between the two.

    ``None`` where there is no such layer, or others read what the layer gives: then it has to be written anyway.
    """
    computed = [tensor for tensor in node.inputs if not graph.from_constants(tensor)]
    if len(computed) != 1:
        return None
    source = without_pairs(graph, computed[0])
    layer = graph.made_by(source, *ops)
    readers = readers_behind_pairs(graph, source)
    # x * sigmoid(x) is one activation: the product reads x too.
    others = [one for one in readers if one is not node and not (one.op == "Mul" and node.output in one.inputs)]
    if layer is None or source in graph.outputs or others:
        return None
    return layer, source != computed[0]


@rule("batch-norm", PLACEMENT)
def batch_norm(graph: Graph) -> Found:
    """Convolution and batch norm become one kernel; Q/DQ between them, or other runtimes, forbid it."""
    for node in graph.of(_NORM):
        layer, quantized = _fuses(graph, node, *WEIGHTED) or (None, False)
        if layer is not None and quantized:
            yield "error", node.name, f"Q/DQ between {layer.name} and it: remove them and fold it into the kernel."
        elif layer is not None:
            yield "warning", node.name, f"not folded into {layer.name}: fold it, before the kernel is quantized."


@rule("activation", PLACEMENT)
def activation(graph: Graph) -> Found:
    """A convolution and its activation become one kernel, unless Q/DQ stand between."""
    for node in graph.of(*ACTIVATIONS, "Add", "Sub", "Mul", "Div"):  # those by a constant: x * relu6(x + 3) / 6
        layer, quantized = _fuses(graph, node, *WEIGHTED, _NORM) or (None, False)
        if layer is not None and quantized:
            yield "error", node.name, f"Q/DQ between {layer.name} and it: quantize behind it instead."


@rule("add-activation", PLACEMENT)
def add_activation(graph: Graph) -> Found:
    """An addition and its activation run in the convolution's kernel, unless Q/DQ stand between."""
    for node in graph.of(*ACTIVATIONS):
        addition, quantized = _fuses(graph, node, "Add") or (None, False)
        if addition is not None and quantized:
            yield "error", node.name, f"Q/DQ between {addition.name} and it: quantize behind it instead."


@dataclass(frozen=True)
class Addend:
    """One input of an addition."""

    tensor: str
    quantized: bool
    layer: Node | None  # the int8 convolution whose kernel could add this up, ``None`` if there is none
    depth: int  # how many layers with kernels it comes from


def additions(graph: Graph) -> list[tuple[Node, list[Addend]]]:
    """All additions of two or more computed tensors."""
    layers = {id(layer.node) for layer in weighted_layers(graph) if is_int8(graph, layer)}
    found = []
    for node in graph.of("Add", "Sum"):
        tensors = [tensor for tensor in node.inputs if not graph.from_constants(tensor)]
        if len(tensors) > 1:
            found.append((node, [_addend(graph, tensor, layers) for tensor in tensors]))
    return found


def _addend(graph: Graph, tensor: str, int8_layers: set[int]) -> Addend:
    quantized = dequantized(graph, tensor) is not None
    layer, alone = graph.producer(tensor), graph.only_read_by(tensor) is not None
    while alone and layer is not None and layer.op in (QUANTIZE, DEQUANTIZE, _NORM):
        alone = graph.only_read_by(layer.input(0)) is not None
        layer = graph.producer(layer.input(0))
    fusable = alone and layer is not None and id(layer) in int8_layers
    depth = sum(node.op in WEIGHTED for node in graph.upstream(tensor))
    return Addend(tensor, quantized, layer if fusable else None, depth)


@rule("residual-branch", PLACEMENT)
def residual_branch(graph: Graph) -> Found:
    """A convolution adds the shortcut in its accumulators, unless Q/DQ stand between the two."""
    for node, addends in additions(graph):
        fusable = [one for one in addends if one.layer is not None]
        if fusable and all(one.quantized for one in fusable):
            layer = max(fusable, key=lambda one: one.depth).layer
            yield "error", node.name, f"Q/DQ between {layer.name if layer else ''} and it: quantize the shortcut only."


@rule("residual-shortcut", PLACEMENT)
def residual_shortcut(graph: Graph) -> Found:
    """A convolution that adds a float shortcut writes float, and the Q behind it is left over."""
    for node, addends in additions(graph):
        fusable = [one for one in addends if one.layer is not None]
        free = [one for one in addends if not one.quantized]
        if not fusable or len(free) == 0:
            continue
        fused = max((one for one in free if one.layer is not None), key=lambda one: one.depth, default=None)
        for one in free:
            if one is not fused:
                yield "error", node.name, f"its shortcut {one.tensor} is not quantized: put Q/DQ on it."


@rule("elementwise", PLACEMENT)
def elementwise(graph: Graph) -> Found:
    """An operator without kernel runs in int8 only when all it reads is quantized."""
    fused = {id(node) for node, addends in additions(graph) if any(one.layer is not None for one in addends)}
    for node in graph.of("Add", "Sum", "Sub", "Mul", "Div", "Max", "Min", "Concat"):
        tensors = [tensor for tensor in node.inputs if not graph.from_constants(tensor)]
        quantized = [tensor for tensor in tensors if dequantized(graph, tensor) is not None]
        if id(node) not in fused and 0 < len(quantized) < len(tensors) and not _activates(graph, node):
            other = next(tensor for tensor in tensors if tensor not in quantized)
            yield "warning", node.name, f"reads {quantized[0]} quantized and {other} in float: quantize all or none."


def _activates(graph: Graph, node: Node) -> bool:
    """Whether a product is the end of an activation, ``x * sigmoid(x)``: it reads what the rest of it reads."""
    factors = [graph.made_by(tensor, *ACTIVATIONS) for tensor in node.inputs] if node.op == "Mul" else []
    return any(factor is not None and factor.input(0) in node.inputs for factor in factors)


@rule("needless", PROCESSING)
def needless(graph: Graph) -> Found:
    """What has no int8 form computes in float; Q/DQ before it only round."""
    for dq in graph.of(DEQUANTIZE):
        if dq.output in graph.outputs and graph.made_by(dq.input(0), QUANTIZE):
            yield "warning", dq.name, f"rounds the output {dq.output} and speeds nothing up: remove it and its Q."
        for node in graph.consumers(dq.output):
            if node.op in FLOAT_ONLY:
                yield "warning", dq.name, f"{node.op} {node.name} computes in float: remove Q/DQ before it."
