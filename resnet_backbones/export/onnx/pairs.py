"""QuantizeLinear and DequantizeLinear, side by side: a tensor rounded to its range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from resnet_backbones.export.onnx.nodes import Graph, Node
from resnet_backbones.quantization.quantizers import BEYOND_HALVES

# Operators that hand on values of the tensor they read, or averages of them, in the same range.
MOVES = (
    "AveragePool",
    "DepthToSpace",
    "Flatten",
    "Gather",
    "GlobalMaxPool",
    "MaxPool",
    "Pad",
    "ReduceMax",
    "Reshape",
    "Resize",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)


def pair_before(graph: Graph, name: str) -> tuple[Node, Node] | None:
    """The Q and the DQ that make a tensor; ``None`` if something else does."""
    after = graph.producer(name)
    if after is None or after.kind != "DequantizeLinear":
        return None
    before = graph.producer(after.inputs[0])
    return None if before is None or before.kind != "QuantizeLinear" else (before, after)


def pair_like(graph: Graph, pattern: Node, source: str) -> str:
    """Rounds a tensor as another pair does; returns the result's name.

    Args:
        graph: changed in place.
        pattern: the DequantizeLinear of the other pair.
        source: the tensor to round.
    """
    whole = graph.add("QuantizeLinear", [source, *pattern.inputs[1:]], f"{source}_quantized")
    return graph.add("DequantizeLinear", [whole, *pattern.inputs[1:]], f"{source}_dequantized")


def keep_pairs_together(graph: Graph) -> None:
    """Moves what tf2onnx moved between Q and DQ behind them."""
    for node in graph.of_kind("DequantizeLinear"):
        moved: list[Node] = []
        source = graph.producer(node.inputs[0])
        while source is not None and source.kind in ("Reshape", "Transpose"):
            moved.append(source)
            source = graph.producer(source.inputs[0])
        if source is None or source.kind != "QuantizeLinear" or not moved:
            continue
        rounded = graph.add("DequantizeLinear", [source.output, *node.inputs[1:]], f"{source.inputs[0]}_dequantized")
        last = rounded
        for move in reversed(moved):
            last = graph.add(move.kind, [last, *move.inputs[1:]], move.name, **move.attributes)
        graph.redirect(node.output, last)
        if node.output not in graph.output_names:
            graph.remove(node)
            graph.rename(rounded, node.output)
    graph.remove_unused()


def merge_equal_pairs(graph: Graph) -> None:
    """One Q, and one DQ, for readers that round the same tensor to the same range; none for one already so rounded."""
    changed = True
    while changed:
        changed = False
        first: dict[tuple, Node] = {}
        for node in graph.of_kind("QuantizeLinear", "DequantizeLinear"):
            rounded = _already_rounded(graph, node)
            twin = first.setdefault((node.kind, node.inputs[0], *_parameters(graph, node)), node)
            instead = rounded if rounded is not None else None if twin is node else twin.output
            if instead is not None:
                graph.redirect(node.output, instead)
                graph.remove(node)
                changed = True
                break
    graph.remove_unused()


def _already_rounded(graph: Graph, node: Node) -> str | None:
    """The integers that a Q makes, if it reads a DQ of the same range: those the DQ reads."""
    before = graph.producer(node.inputs[0]) if node.kind == "QuantizeLinear" else None
    if before is None or before.kind != "DequantizeLinear" or _parameters(graph, before) != _parameters(graph, node):
        return None
    return before.inputs[0]


def _parameters(graph: Graph, node: Node) -> tuple:
    """Scale and zero point by value, and the axis."""
    values = tuple((graph.constants[name].tobytes(), graph.constants[name].dtype.str) for name in node.inputs[1:3])
    return (*values, node.attributes.get("axis"))


def keep_both_roundings(graph: Graph) -> None:
    """Puts a minimum with 255, which changes nothing, between two ranges that follow one another.

    ONNX Runtime makes one range of two, narrower than either, and what was rounded to the first is rounded otherwise.

    Args:
        graph: changed in place; its activations are uint8.
    """
    for node in graph.of_kind("DequantizeLinear"):
        first, then = graph.producer(node.inputs[0]), graph.only_consumer(node.output)
        if first is None or first.kind != "QuantizeLinear" or then is None or then.kind != "QuantizeLinear":
            continue
        most = graph.constant(np.uint8(255), f"{node.name}_most")
        node.inputs[0] = graph.add("Min", [first.output, most], f"{first.output}_kept")


def round_behind_moves(graph: Graph, *, for_runtime: bool) -> None:
    """Puts a pair of the same range behind whatever only moves rounded values.

    It changes no value, but for averages, and lets the operator behind see integers: an engine recognises an operator
    in integers by the Q/DQ that touch it. Halves of averages go away from zero, as in Keras and LiteRT.

    Args:
        graph: changed in place.
        for_runtime: for ONNX Runtime, else for TensorRT: behind those too whose results are only returned by the graph;
            zero is the one of LiteRT's integers.
    """
    pending = [node for node in graph.of_kind("DequantizeLinear") if node.inputs[0] not in graph.constants]
    while pending:
        source = pending.pop()
        for node in graph.consumers(source.output):
            if node.kind not in MOVES or node.inputs[0] != source.output:
                continue
            for name in node.outputs:
                averaged = _averages(node)  # Keras rounds it before all that reads it
                readers = [one for one in graph.consumers(name) if averaged or one.kind != "QuantizeLinear"]
                at_the_end = for_runtime and (readers or name in graph.output_names)
                if not at_the_end and not _is_computed_with(graph, name):
                    continue
                pattern = source
                if averaged and not for_runtime:
                    pattern = _with_smaller_steps(graph, source)
                    _share_steps(graph, readers, source, pattern)
                rounded = pair_like(graph, pattern, name)
                after = graph.maker(rounded)
                if averaged and for_runtime:
                    _average_integers(graph, source, node, graph.maker(after.inputs[0]))
                for reader in readers:
                    reader.inputs = [rounded if n == name else n for n in reader.inputs]
                if name in graph.output_names:
                    graph.return_instead(name, rounded)
                pending.append(after)
    merge_equal_pairs(graph)


def _averages(node: Node) -> bool:
    return node.kind == "AveragePool" or (node.kind == "Resize" and node.attributes.get("mode") == b"linear")


def _with_smaller_steps(graph: Graph, pattern: Node) -> Node:
    """A DequantizeLinear like another, but for its scale: by so little smaller that halves are just beyond."""
    scale = graph.constant(
        graph.constants[pattern.inputs[1]] * np.float32(BEYOND_HALVES), f"{pattern.inputs[1]}_averaged"
    )
    return replace(pattern, inputs=[pattern.inputs[0], scale, *pattern.inputs[2:]])


def _share_steps(graph: Graph, readers: list[Node], source: Node, pattern: Node) -> None:
    """Gives the pairs of a source's range, among readers, that of a pattern."""
    for reader in readers:
        if reader.kind == "QuantizeLinear" and _parameters(graph, reader) == _parameters(graph, source):
            for one in (reader, *graph.consumers(reader.output)):
                one.inputs[1:] = pattern.inputs[1:]


def _average_integers(graph: Graph, before: Node, node: Node, after: Node) -> None:
    """Lets a node average what LiteRT's integers would be, whose sums are exact, and rounds halves away from zero.

    Args:
        graph: changed in place.
        before: the DequantizeLinear it reads.
        node: the operator that averages.
        after: the QuantizeLinear that reads its result.
    """
    zero = graph.constant(np.uint8(_largest(graph, before.inputs[0]) - 127), f"{node.name}_zero_of_integers")
    one, less = (graph.constant(np.float32(size), f"{node.name}_step") for size in (1.0, BEYOND_HALVES))
    node.inputs[0] = graph.add("DequantizeLinear", [before.inputs[0], one, zero], f"{node.name}_integers")
    after.inputs[1:] = [less, zero]


def _largest(graph: Graph, name: str) -> int:
    """The largest of uint8 values: less than 255 where those of a symmetric range begin at zero."""
    node = graph.producer(name)
    if node is not None and node.kind == "Min":
        return int(graph.constants[node.inputs[1]])
    moved = graph.producer(node.inputs[0]) if node is not None and node.kind == "QuantizeLinear" else None
    before = graph.producer(moved.inputs[0]) if moved is not None and moved.kind in MOVES else None
    return 255 if before is None or before.kind != "DequantizeLinear" else _largest(graph, before.inputs[0])


def _is_computed_with(graph: Graph, name: str) -> bool:
    """Whether more becomes of a tensor than moving and rounding it, and joining it to what the graph returns."""
    for node in graph.consumers(name):
        joins = node.kind == "Concat" and set(node.outputs) <= set(graph.output_names)
        if node.kind in MOVES:
            if any(_is_computed_with(graph, output) for output in node.outputs):
                return True
        elif node.kind != "QuantizeLinear" and not joins:
            return True
    return False
