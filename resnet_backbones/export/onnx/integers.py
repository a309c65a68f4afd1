"""Q/DQ that ONNX Runtime needs besides the scheme's, so that its CPU kernels compute in integers what stands between.

Each does what LiteRT's converter does with the same model, so the two files agree.
"""

from __future__ import annotations

import numpy as np

from resnet_backbones.export.onnx.nodes import Graph, Node
from resnet_backbones.export.onnx.pairs import MOVES, merge_equal_pairs

_SIGMOID_STEP = np.float32(1 / 256)  # LiteRT's fixed scale of a sigmoid's result


def round_what_is_between(graph: Graph) -> None:
    """Runs the passes of this module.

    Args:
        graph: changed in place; its activations are uint8.
    """
    _round_for_all_readers(graph)
    _round_sigmoids(graph)
    _add_hard_sigmoids(graph)
    _round_numbers(graph)
    _drop_needless_rectifiers(graph)
    merge_equal_pairs(graph)
    _rename_integers(graph)
    merge_equal_pairs(graph)


def _round_for_all_readers(graph: Graph) -> None:
    """Where a tensor has a range for one reader, lets what moves or merges it read the rounded tensor too.

    It concerns sums that are no layer, as in a feature pyramid: the convolution behind one has a range on its input,
    the upsampling beside it none, and would make floats of itself and both sums.
    """
    for node in graph.of_kind("QuantizeLinear"):
        readers = graph.consumers(node.inputs[0])
        following = graph.consumers(node.output)
        if len(following) == 1 and following[0].kind == "Min":  # after a ReLU with a symmetric range
            following = graph.consumers(following[0].output)
        if sum(reader.kind == "QuantizeLinear" for reader in readers) > 1 or len(following) != 1:
            continue
        for reader in readers:
            if reader.kind in (*MOVES, "Add", "Concat", "Mul"):
                reader.inputs = [following[0].output if n == node.inputs[0] else n for n in reader.inputs]


def _round_sigmoids(graph: Graph) -> None:
    """Rounds a sigmoid that multiplies something, as in SiLU, whose product has a range."""
    for node in _factors(graph, "Sigmoid"):
        reader = graph.only_consumer(node.output)
        rounded = _rounded(graph, node.output, _SIGMOID_STEP, _SIGMOID_STEP)
        reader.inputs = [rounded if name == node.output else name for name in reader.inputs]  # type: ignore[union-attr]


def _add_hard_sigmoids(graph: Graph) -> None:
    """Makes a hard sigmoid that multiplies something, as in hard-swish, of a sum alone.

    ``clip(a x + b, 0, 1)`` is ``a clip(x + b / a, 0, 1 / a)``: the range of the sum clips, and its integers in steps
    smaller by ``a`` are the result.
    """
    for node in _factors(graph, "HardSigmoid"):
        slope, offset = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
        number = graph.constant(np.float32(offset / slope), f"{node.name}_offset")
        total = graph.add("Add", [node.inputs[0], number], f"{node.output}_sum")
        graph.redirect(node.output, _rounded(graph, total, np.float32(1 / slope / 255), np.float32(1 / 255)))
        graph.remove(node)


def _factors(graph: Graph, kind: str) -> list[Node]:
    """The nodes of a kind that read a rounded tensor and are read by a product alone, whose result is rounded."""
    readers = [(node, graph.only_consumer(node.output)) for node in graph.of_kind(kind)]
    return [
        node
        for node, reader in readers
        if reader is not None and reader.kind == "Mul" and _is_rounded(graph, node.inputs[0])
        if _only_quantize(graph, reader) is not None
    ]


def _rounded(graph: Graph, name: str, step: np.float32, read_as: np.float32) -> str:
    """A tensor of nothing below zero in steps of one size, read back in steps of another."""
    zero = graph.constant(np.uint8(0), f"{name}_zero_point")
    steps = [graph.constant(size, f"{name}_scale") for size in (step, read_as)]
    whole = graph.add("QuantizeLinear", [name, steps[0], zero], f"{name}_quantized")
    return graph.add("DequantizeLinear", [whole, steps[1], zero], f"{name}_dequantized")


def _round_numbers(graph: Graph) -> None:
    """Writes the number that is added to, or multiplies, a rounded tensor as one integer and its scale: exactly."""
    for node in graph.of_kind("Add", "Mul"):
        if _only_quantize(graph, node) is None:
            continue
        for at in (0, 1):
            number = graph.constants.get(node.inputs[at])
            if number is None or number.size != 1 or not number.any() or not _is_rounded(graph, node.inputs[1 - at]):
                continue
            positive = float(number.reshape(())) > 0
            whole = graph.constant(np.full(number.shape, 255 if positive else 0, np.uint8), f"{node.name}_number")
            scale = graph.constant(np.float32(abs(float(number.reshape(()))) / 255), f"{node.name}_number_scale")
            zero = graph.constant(np.uint8(0 if positive else 255), f"{node.name}_number_zero_point")
            node.inputs[at] = graph.add("DequantizeLinear", [whole, scale, zero], f"{node.name}_number_dequantized")


def _drop_needless_rectifiers(graph: Graph) -> None:
    """A ReLU behind a range that begins at zero changes nothing."""
    for node in graph.of_kind("Relu"):
        before = graph.producer(node.inputs[0])
        if before is not None and before.kind == "DequantizeLinear" and graph.constants[before.inputs[2]].max() == 0:
            graph.redirect(node.output, before.output)
            graph.remove(node)


def _rename_integers(graph: Graph) -> None:
    """A product with a number into steps that many times larger leaves the integers what they are."""
    for node in graph.of_kind("Mul"):
        after = _only_quantize(graph, node)
        before = graph.producer(node.inputs[0])
        number = _number(graph, node.inputs[1])
        if after is None or before is None or before.kind != "DequantizeLinear" or number is None:
            continue
        (old, old_zero), (new, new_zero) = ([graph.constants[n] for n in pair.inputs[1:3]] for pair in (before, after))
        if old.size == 1 and old_zero == new_zero and abs(old * number / new - 1) < 1e-5:
            graph.redirect(after.output, before.inputs[0])
    graph.remove_unused()


def _number(graph: Graph, name: str) -> float | None:
    """The number that a constant, rounded or not, holds."""
    node = graph.producer(name)
    if node is not None and node.kind == "DequantizeLinear" and node.inputs[0] in graph.constants:
        whole, scale, zero = (graph.constants[entry] for entry in node.inputs[:3])
        return float((int(whole.reshape(())) - int(zero)) * scale) if whole.size == 1 else None
    value = graph.constants.get(name)
    return float(value.reshape(())) if value is not None and value.size == 1 else None


def _is_rounded(graph: Graph, name: str) -> bool:
    node = graph.producer(name)
    return node is not None and node.kind == "DequantizeLinear"


def _only_quantize(graph: Graph, node: Node) -> Node | None:
    """The Q that alone reads a node's result."""
    reader = graph.only_consumer(node.output)
    return reader if reader is not None and reader.kind == "QuantizeLinear" else None
