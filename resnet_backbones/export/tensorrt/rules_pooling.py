"""Rules on pooling and on transposes: what stands between layers with kernels."""

from __future__ import annotations

from resnet_backbones.export.tensorrt.findings import PLACEMENT, PROCESSING, Found, rule
from resnet_backbones.export.tensorrt.graph import DEQUANTIZE, QUANTIZE, Graph, Node
from resnet_backbones.export.tensorrt.structure import (
    ACTIVATIONS,
    AVERAGING,
    LARGEST,
    WEIGHTED,
    dequantized,
    is_int8,
    quantized_next,
    same_scale,
    weighted_layers,
)


def _int8_layers(graph: Graph) -> set[int]:
    return {id(layer.node) for layer in weighted_layers(graph) if is_int8(graph, layer)}


@rule("average-pool", PLACEMENT)
def average_pool(graph: Graph) -> Found:
    """Averaging does not commute with Q: it runs in int8 between its own DQ and a Q."""
    int8 = _int8_layers(graph)
    for node in graph.of(*AVERAGING):
        reads, gives = dequantized(graph, node.input(0)) is not None, bool(quantized_next(graph, node.output))
        if not reads and any(id(one) in int8 for one in graph.upstream(node.input(0))):
            yield "warning", node.name, "it averages float behind int8 layers: put Q/DQ on its input."
        elif reads and not gives:
            yield "info", node.name, "reads int8 and gives float: averages in float, as before a float head it may."


@rule("max-pool", PROCESSING)
def max_pool(graph: Graph) -> Found:
    """The largest of quantized values is a quantized value: with Q/DQ on one side it runs in int8."""
    int8 = _int8_layers(graph)
    for node in graph.of(*LARGEST):
        before, behind = dequantized(graph, node.input(0)), quantized_next(graph, node.output)
        if before is None and not behind and any(id(one) in int8 for one in graph.upstream(node.input(0))):
            yield "warning", node.name, "it pools float behind int8 layers: put Q/DQ on its input."
        for q in behind if before is not None else []:
            if not same_scale(graph, before, q):  # type: ignore[arg-type]
                yield "warning", node.name, f"{q.name} behind it has another scale than its input: give both the same."


@rule("transpose", PROCESSING)
def transpose(graph: Graph) -> Found:
    """Convolutions read NCHW: a transpose among layers is a copy of the whole tensor."""
    for node in graph.of("Transpose"):
        if graph.from_constants(node.input(0)) or _moves_ones(node):
            continue
        above = any(one.op in (*WEIGHTED, *AVERAGING, *LARGEST) for one in graph.upstream(node.input(0)))
        below = any(one.op in (*WEIGHTED, *AVERAGING, *LARGEST) for one in graph.downstream(node.output))
        back = _undone_by(graph, node)
        if above and below and back is not None:
            yield "error", node.name, f"{back.name} transposes back, and all between goes either way: leave both out."
        elif above and below:
            yield "info", node.name, "copies the whole tensor, as a reshape, a permutation or a product by rows wants."


# What gives the same with its axes in another order.
_EITHER_WAY = (
    *(*ACTIVATIONS, QUANTIZE, DEQUANTIZE, "Add", "Sum", "Sub", "Mul", "Div", "Max", "Min", "Neg", "Abs", "Exp", "Log"),
    *("Sqrt", "Pow", "Erf", "Identity", "Cast", "Concat", "Pad", "Slice", "Split", "Resize"),
)


def _undone_by(graph: Graph, node: Node) -> Node | None:
    """The transpose that puts the axes back after what does not ask for their order; ``None`` if there is none."""
    order = node.attributes.get("perm")
    pending, seen = [node.output], {id(node)}
    while order is not None and pending:
        for reader in graph.consumers(pending.pop()):
            if id(reader) in seen:
                continue
            seen.add(id(reader))
            back = reader.attributes.get("perm") if reader.op == "Transpose" else None
            if back is not None and [order[axis] for axis in back] == sorted(order):
                return reader
            pending += reader.outputs if reader.op in _EITHER_WAY else []
    return None


def _moves_ones(node: Node) -> bool:
    """Whether a transpose leaves everything where it is."""
    order = node.attributes.get("perm")
    return order is not None and list(order) == sorted(order)
