"""Transpositions and reshapes that tf2onnx leaves, taken out where they undo one another."""

from __future__ import annotations

import re

import numpy as np
import onnx

from resnet_backbones.export.onnx.nodes import Graph, Node
from resnet_backbones.export.onnx.pairs import keep_pairs_together, merge_equal_pairs

_JOINED = re.compile(r"_Gemm__\d+$")


def tidy(model: onnx.ModelProto) -> Graph:
    """The graph as tf2onnx made it, without what it left in the way.

    Args:
        model: with the kernels still inputs.
    """
    graph = Graph(model)
    _shorten_names(graph)
    _write_targets(graph)
    remove_needless_moves(graph)
    keep_pairs_together(graph)
    remove_needless_moves(graph)
    merge_equal_pairs(graph)
    return graph


def _shorten_names(graph: Graph) -> None:
    """Calls tensors as TensorFlow calls the operations that make them, without the number of the result."""
    names = {name for node in graph.nodes for name in node.outputs} | set(graph.constants)
    short = {name: name.removesuffix(":0") for name in names - set(graph.output_names) if name.endswith(":0")}
    short = {name: new for name, new in short.items() if new not in names and new not in graph.output_names}
    graph.constants = {short.get(name, name): value for name, value in graph.constants.items()}
    for node in graph.nodes:
        for name in short.keys() & node.read:
            node.read_instead(name, short[name])
        node.outputs = [short.get(name, name) for name in node.outputs]
    for node in graph.of_kind("Gemm"):  # tf2onnx joins product and bias under a name of its own
        product = _JOINED.sub("", node.output)
        if product != node.output:
            graph.rename(node.output, graph.new_name(product))
            node.name = node.output


def _write_targets(graph: Graph) -> None:
    """Writes as numbers what reshapes compute from the number of images, which is what they leave open."""
    computed = [node for node in graph.of_kind("Reshape") if node.inputs[1] not in graph.constants]
    if not computed:
        return
    of_two, of_three = graph.shapes(images=2), graph.shapes(images=3)
    for node in computed:
        two, three = of_two.get(node.output, [None]), of_three.get(node.output, [None])
        if None in (*two, *three) or two[1:] != three[1:] or 3 * two[0] != 2 * three[0]:  # type: ignore[operator]
            continue
        node.inputs[1] = graph.constant(np.asarray([-1, *two[1:]], np.int64), f"{node.output}_shape")
    graph.remove_unused()


def remove_needless_moves(graph: Graph) -> None:
    """Removes copies, pairs of transpositions that cancel, reshapes of reshapes and those that change nothing."""
    for node in graph.of_kind("Identity"):
        graph.redirect(node.output, node.inputs[0])
        if node.output not in graph.output_names:
            graph.remove(node)
    _transpose_behind_splits(graph)
    _transpose_behind_pairs(graph)
    for node in graph.of_kind("Transpose"):
        _join_transposes(graph, node)
    _reshape_instead_of_transposing_ones(graph)
    for node in graph.of_kind("Resize"):
        _join_resizes(graph, node)
    for node in graph.of_kind("Reshape"):
        _skip_reshape_before(graph, node)
    graph.remove_unused()
    _remove_reshapes_to_the_same(graph)
    graph.remove_unused()


def _transpose_behind_splits(graph: Graph) -> None:
    """Splits channels first: a transposition before a split becomes one behind each part."""
    for node in graph.of_kind("Split"):
        before = graph.producer(node.inputs[0])
        if before is None or before.kind != "Transpose":
            continue
        order = list(before.attributes["perm"])
        node.attributes["axis"] = order[node.attributes.get("axis", 0)]
        node.inputs[0] = before.inputs[0]
        for name in node.outputs:
            moved = _transpose_behind(graph, name, order)
            if name in graph.output_names:
                graph.return_instead(name, moved)


def _transpose_behind_pairs(graph: Graph) -> None:
    """Rounds channels first: a transposition before a Q/DQ pair that is transposed back behind it goes there too."""
    for node in graph.of_kind("DequantizeLinear"):
        rounding = graph.producer(node.inputs[0])
        if rounding is None or graph.only_consumer(rounding.output) is None:
            continue
        before = graph.producer(rounding.inputs[0])
        if before is None or before.kind != "Transpose":
            continue
        readers = graph.consumers(node.output)
        back = readers and all(reader.kind == "Transpose" for reader in readers)
        scale = graph.constants.get(node.inputs[1])
        if back and node.output not in graph.output_names and scale is not None and scale.size == 1:
            rounding.inputs[0] = before.inputs[0]
            _transpose_behind(graph, node.output, list(before.attributes["perm"]))


def _transpose_behind(graph: Graph, name: str, order: list[int]) -> str:
    """Transposes a tensor for all that read it; returns the name of what they read now."""
    readers = graph.consumers(name)
    moved = graph.add("Transpose", [name], f"{name}_moved", perm=order)
    for reader in readers:
        reader.read_instead(name, moved)
    return moved


def _join_transposes(graph: Graph, node: Node) -> None:
    before = graph.producer(node.inputs[0])
    if before is None or before.kind != "Transpose":
        return
    order = [before.attributes["perm"][axis] for axis in node.attributes["perm"]]
    if order == sorted(order):
        graph.redirect(node.output, before.inputs[0])
    else:
        node.inputs, node.attributes["perm"] = [before.inputs[0]], order


def _reshape_instead_of_transposing_ones(graph: Graph) -> None:
    """A transposition of what has one axis only, such as a gate of each channel, leaves values in place: a reshape."""
    shapes = graph.shapes() if graph.of_kind("Transpose") else {}
    for node in graph.of_kind("Transpose"):
        shape, order = shapes.get(node.inputs[0]), node.attributes["perm"]
        if shape is None or order[0] != 0 or node.inputs[0] in graph.constants:
            continue
        if None not in shape[1:] and sum(size != 1 for size in shape[1:]) <= 1:
            target = np.asarray([-1, *(shape[axis] for axis in order[1:])], np.int64)
            node.kind, node.attributes = "Reshape", {}
            node.inputs.append(graph.constant(target, f"{node.output}_shape"))


def _join_resizes(graph: Graph, node: Node) -> None:
    """One enlargement of rows and columns, of one of rows and one of columns."""
    before = graph.producer(node.inputs[0])
    if before is None or before.kind != "Resize" or before.attributes != node.attributes:
        return
    scales = [graph.constants.get(part.inputs[2]) if len(part.inputs) == 3 else None for part in (before, node)]
    nearest = node.attributes.get("mode", b"nearest") == b"nearest"
    if nearest and all(scale is not None and np.all(scale == np.round(scale)) for scale in scales):
        both = graph.constant(scales[0] * scales[1], f"{node.name}_scales")  # type: ignore[operator]
        node.inputs = [before.inputs[0], node.inputs[1], both]


def _skip_reshape_before(graph: Graph, node: Node) -> None:
    """The last of several reshapes in a row decides."""
    target = graph.constants.get(node.inputs[1])
    before = graph.producer(node.inputs[0])
    while before is not None and before.kind == "Reshape" and target is not None and np.all(target != 0):
        node.inputs[0] = before.inputs[0]
        before = graph.producer(node.inputs[0])


def _remove_reshapes_to_the_same(graph: Graph) -> None:
    shapes = graph.shapes()
    for node in graph.of_kind("Reshape"):
        old, new = shapes.get(node.inputs[0]), shapes.get(node.output)
        # With all other sizes known and equal, so is the number of images.
        if old is not None and new is not None and old[1:] == new[1:] and None not in old[1:] and len(old) > 1:
            graph.redirect(node.output, node.inputs[0])
