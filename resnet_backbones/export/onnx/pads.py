"""Padding that becomes a part of the convolution or pooling behind it."""

from __future__ import annotations

import numpy as np

from resnet_backbones.export.onnx.nodes import Graph, Node
from resnet_backbones.export.onnx.pairs import pair_before, pair_like


def merge_pads(graph: Graph) -> None:
    """Merges paddings with zeros.

    A convolution pads with zeros itself. A max pooling pads with what is below every value, which is the same where no
    value is below zero. Where Q/DQ stand between padding and convolution they move before the padding: zero is exact.
    """
    for node in graph.of_kind("Conv", "MaxPool"):
        pair = pair_before(graph, node.inputs[0])
        pad = graph.producer(node.inputs[0] if pair is None else pair[0].inputs[0])
        if pad is None or pad.kind != "Pad":
            continue
        sides = _zero_padding(graph, pad, node)
        if sides is None or (node.kind == "MaxPool" and not _never_negative(graph, pad.inputs[0])):
            continue
        node.attributes["pads"] = [own + more for own, more in zip(_own(node, len(sides)), sides, strict=True)]
        node.attributes.pop("auto_pad", None)
        node.inputs[0] = pad.inputs[0] if pair is None else pair_like(graph, pair[1], pad.inputs[0])
    graph.remove_unused()


def enlarge_outputs(graph: Graph) -> None:
    """Writes what tf2onnx writes as negative pads of a transposed convolution as the padding of its output.

    Its result is then larger than all that its kernel reaches: of a stride longer than the kernel, or as the layer's
    ``output_padding`` asks. TensorFlow has the rows and columns that only the bias reaches at the end.
    """
    for node in graph.of_kind("ConvTranspose"):
        pads = _own(node, 4)
        begins, ends = np.split(np.asarray(pads), 2)  # as many as the images have axes
        more = np.maximum(0, -(begins + ends))
        if min(pads) < 0:
            node.attributes["pads"] = np.where(more > 0, 0, [begins, ends]).reshape(-1).tolist()
            node.attributes["output_padding"] = more.tolist()


def _zero_padding(graph: Graph, pad: Node, node: Node) -> list[int] | None:
    """Sizes (begins, then ends) over height and width; ``None`` if it pads other axes or with other values."""
    widths = graph.constants.get(pad.inputs[1])
    mode = pad.attributes.get("mode", b"constant")
    value = graph.constants.get(pad.inputs[2], np.ones(1)) if len(pad.inputs) > 2 and pad.inputs[2] else np.zeros(1)
    if widths is None or mode != b"constant" or np.any(value) or len(pad.inputs) > 3:
        return None
    if node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    begins, ends = np.split(widths, 2)
    if np.any(begins[:2]) or np.any(ends[:2]) or np.any(widths < 0):
        return None
    sides = [*begins[2:].tolist(), *ends[2:].tolist()]
    window = node.attributes.get("kernel_shape", [])
    if node.kind == "MaxPool" and any(size >= window[i % len(window)] for i, size in enumerate(sides)):
        return None
    return sides


def _own(node: Node, count: int) -> list[int]:
    return node.attributes.get("pads") or [0] * count


def _never_negative(graph: Graph, name: str) -> bool:
    """Whether a tensor comes of an operator that makes nothing below zero."""
    pair = pair_before(graph, name)
    node = graph.producer(name if pair is None else pair[0].inputs[0])
    if node is None:
        return False
    if node.kind == "Clip":
        return bool(np.all(graph.constants.get(node.inputs[1], -np.ones(1)) >= 0))
    return node.kind in ("Relu", "Sigmoid", "HardSigmoid")
