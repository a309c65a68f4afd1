"""Folding into the kernel and the bias of a layer what multiplies and adds a number an output channel behind it.

A batch norm is one operator in one Keras and a product and a sum in the other. Of a quantized kernel only the scales
change: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2017, https://arxiv.org/abs/1712.05877
"""

from __future__ import annotations

import numpy as np

from resnet_backbones.export.onnx.kernels import WEIGHTED, Kernel, output_axis
from resnet_backbones.export.onnx.nodes import Graph, Node


def fold_scales_and_offsets(graph: Graph, kernels: dict[str, Kernel]) -> None:
    """Folds whatever can be folded behind every weighted node.

    Args:
        graph: changed in place.
        kernels: quantized kernels by name of the tensor that stands for them; changed in place.
    """
    for node in graph.of_kind(*WEIGHTED):
        if node.attributes.get("group", 1) != 1 and node.kind == "ConvTranspose":
            continue  # its output channels are spread over two axes
        if len(node.inputs) > 2 and node.inputs[2] not in graph.constants:
            continue  # it adds what is computed, as a recurrent layer's steps do
        while (behind := graph.only_consumer(node.output)) is not None:
            channels = _channels(graph, kernels, node)
            found = None if channels is None else scale_and_offset(graph, node.output, behind, channels, _rank(node))
            if found is None or (node.kind == "MatMul" and np.any(found[1])):
                break
            _multiply(graph, kernels, node, found[0])
            _shift(graph, node, *found)
            graph.remove(behind)
            node.outputs, node.name = [behind.output], behind.name or node.name


def _rank(node: Node) -> int | None:
    """Rank of the result where the channels are its second axis; ``None`` where they are the last."""
    return 4 if node.kind in ("Conv", "ConvTranspose") else None


def _channels(graph: Graph, kernels: dict[str, Kernel], node: Node) -> int | None:
    name = node.inputs[1]
    if name in kernels:
        return len(kernels[name].scale)
    if name in graph.constants:
        return graph.constants[name].shape[output_axis(node, graph.constants[name].ndim)]
    return None


def scale_and_offset(
    graph: Graph, source: str, node: Node, channels: int, rank: int | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """What a node does to each channel, if that is all it does: ``output = scale * source + offset``.

    Args:
        graph: the graph.
        source: the tensor that the node reads.
        node: any node.
        channels: how many the tensor has.
        rank: of the tensor, its channels being the second axis; ``None`` if they are the last.

    Returns:
        Two arrays of float64, one number a channel; ``None`` if the node does anything else.
    """
    if node.kind == "BatchNormalization" and node.inputs[0] == source:
        if not all(name in graph.constants for name in node.inputs[1:5]):
            return None
        gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in node.inputs[1:5])
        scale = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        return scale, beta - mean * scale
    if node.kind not in ("Mul", "Div", "Add", "Sub"):
        return None
    at = node.inputs.index(source)
    other = graph.constants.get(node.inputs[1 - at])
    value = None if other is None else _per_channel(other, channels, rank)
    if value is None or (at == 1 and node.kind in ("Div", "Sub")):
        return None
    one, nothing = np.ones(channels), np.zeros(channels)
    return {"Mul": (value, nothing), "Div": (one / value if node.kind == "Div" else one, nothing)}.get(
        node.kind, (one, -value if node.kind == "Sub" else value)
    )


def _per_channel(value: np.ndarray, channels: int, rank: int | None) -> np.ndarray | None:
    """A constant as one number a channel; ``None`` if it differs along another axis, or is not of floats."""
    if value.dtype.kind != "f":
        return None
    if value.size == 1:
        return np.full(channels, value.reshape(()), np.float64)
    if rank is None:
        shape: tuple[int, ...] = (channels,)
    else:
        shape = (1, channels, *[1] * (rank - 2))[max(0, rank - value.ndim) :]
    fits = value.size == channels and value.ndim <= (rank or value.ndim) and value.shape[-len(shape) :] == shape
    return value.reshape(channels).astype(np.float64) if fits else None


def _multiply(graph: Graph, kernels: dict[str, Kernel], node: Node, factors: np.ndarray) -> None:
    name = node.inputs[1]
    if name in kernels:
        kernels[name] = kernels[name].multiplied(factors)
        return
    kernel = graph.constants[name]
    axis = output_axis(node, kernel.ndim)
    shape = [-1 if number == axis else 1 for number in range(kernel.ndim)]
    # Under a name of its own: another call of a shared layer may read the constant too.
    node.inputs[1] = graph.constant((kernel * factors.reshape(shape)).astype(kernel.dtype), f"{node.name}_folded")


def _shift(graph: Graph, node: Node, scale: np.ndarray, offset: np.ndarray) -> None:
    bias = graph.constants[node.inputs[2]].astype(np.float64) if len(node.inputs) > 2 else np.zeros(len(offset))
    bias = bias * scale + offset
    if len(node.inputs) > 2 or np.any(bias):
        node.inputs = [*node.inputs[:2], graph.constant(bias.astype(np.float32), f"{node.name}_bias")]
