"""Quantized kernels in an ONNX graph: the Keras model's own integers, with a scale an output channel.

While other passes run, a quantized kernel is kept beside the graph, so that what is folded into it changes scales only.
In the file it is an int8 constant and a DequantizeLinear in front of its layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resnet_backbones.export.contents import FileKernel
from resnet_backbones.export.onnx.nodes import Graph, Node

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Kernel:
    """A kernel as its layer reads it.

    Attributes:
        integers: int8.
        scale: float64, one an output channel.
        axis: of the output channels.
        bits: of the integers.
        layer_shape: of the layer's own kernel; empty where no layer has one.
        coarser: one an output channel, whether it was given larger steps; ``None``: none was.
        source: name of the input that stood for the layer's kernel; empty where no layer has one.
    """

    integers: np.ndarray
    scale: np.ndarray
    axis: int
    bits: int = 8
    layer_shape: tuple[int, ...] = ()
    coarser: np.ndarray | None = None
    source: str = ""

    def multiplied(self, factors: np.ndarray) -> Kernel:
        """The kernel with each output channel multiplied: its scale, and the sign of its integers."""
        shape = [-1 if axis == self.axis else 1 for axis in range(self.integers.ndim)]
        signs = np.where(factors < 0, -1, 1).astype(np.int8).reshape(shape)
        return replace(self, integers=self.integers * signs, scale=self.scale * np.abs(factors))

    @property
    def values(self) -> np.ndarray:
        """What the integers stand for, float32."""
        shape = [-1 if axis == self.axis else 1 for axis in range(self.integers.ndim)]
        return (self.integers * self.scale.reshape(shape)).astype(np.float32)


def shapes_of(kernels: dict[str, Kernel]) -> dict[str, tuple[int, ...]]:
    """Shapes of kernels that are kept beside the graph, for its own shapes to be inferred."""
    return {name: kernel.integers.shape for name, kernel in kernels.items()}


def output_axis(node: Node, rank: int) -> int:
    """Axis of the output channels in the kernel of a weighted node."""
    if node.kind == "Conv":
        return 0
    if node.kind == "ConvTranspose":
        return 1
    return 0 if node.attributes.get("transB") else rank - 1


def attach(graph: Graph, given: dict[str, tuple[np.ndarray, np.ndarray]], bits: dict[str, int]) -> dict[str, Kernel]:
    """Replaces the inputs that stand for kernels.

    Args:
        graph: changed in place.
        given: name of an input -> integers, and scales that broadcast to them, in Keras' layout.
        bits: name of an input -> bits of its integers.

    Returns:
        Name of a tensor, read by one weighted node -> its kernel. The graph itself does not hold these tensors. A
        kernel whose scales do not lie on its node's output channels becomes a float constant.
    """
    kernels: dict[str, Kernel] = {}
    for node in graph.of_kind(*WEIGHTED):
        moved = _moved(graph, node.inputs[1], given)
        if moved is None:
            continue
        source, integers, scales = moved
        axis = output_axis(node, integers.ndim)
        per_channel = np.moveaxis(scales, axis, 0).reshape(scales.shape[axis], -1)
        if np.all(per_channel == per_channel[:, :1]):
            name = graph.new_name(f"{node.name}_kernel")
            kernels[name] = Kernel(
                integers,
                per_channel[:, 0].astype(np.float64),
                axis,
                bits[source],
                given[source][0].shape,
                source=source,
            )
            node.inputs[1] = name
    for name, (integers, scales) in given.items():
        graph.constants[name] = (integers * scales).astype(np.float32)
    graph.inputs = [entry for entry in graph.inputs if entry.name not in given]
    graph.remove_unused()
    return kernels


def _moved(
    graph: Graph, name: str, given: dict[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Which given kernel a tensor is, transposed or reshaped, its integers and scales; ``None`` for any other."""
    if name in given:
        integers, scales = given[name]
        return name, integers, np.broadcast_to(scales, integers.shape)
    node = graph.producer(name)
    if node is None or node.kind not in ("Identity", "Reshape", "Transpose"):
        return None
    source = _moved(graph, node.inputs[0], given)
    if source is None or node.kind == "Identity":
        return source
    if node.kind == "Transpose":
        integers, scales = (np.transpose(array, node.attributes.get("perm")) for array in source[1:])
        return source[0], integers, scales
    shape = graph.constants.get(node.inputs[1])
    if shape is None:
        return None
    integers, scales = (array.reshape(shape) for array in source[1:])
    return source[0], integers, scales


def write_kernels(graph: Graph, kernels: dict[str, Kernel], layers: Mapping[str, Any]) -> list[FileKernel]:
    """Puts the kernels into the graph, each as int8 integers behind a DequantizeLinear of its own.

    Scales are above zero: a channel whose scale is zero, as a batch norm with a scale of zero leaves it, has integers
    of zero instead.

    Args:
        graph: changed in place.
        kernels: quantized kernels by name of the tensor that stands for them.
        layers: name of an input that stood for a kernel -> the layer that has it.

    Returns:
        The kernels as they were written, in Keras' layout.
    """
    written = []
    for node in graph.of_kind(*WEIGHTED):
        if node.inputs[1] not in kernels:
            continue
        kernel, hint = with_positive_scales(kernels[node.inputs[1]]), node.name
        integers = graph.constant(kernel.integers, f"{hint}_kernel_int8")
        scale = graph.constant(kernel.scale.astype(np.float32), f"{hint}_kernel_scale")
        zeros = graph.constant(np.zeros(len(kernel.scale), np.int8), f"{hint}_kernel_zero_point")
        node.inputs[1] = graph.add(
            "DequantizeLinear", [integers, scale, zeros], f"{hint}_kernel_dequantized", axis=kernel.axis
        )
        written.append(_as_keras_has_it(node, kernel, layers.get(kernel.source)))
    return written


def _as_keras_has_it(node: Node, kernel: Kernel, layer: Any) -> FileKernel:
    values, groups = kernel.integers.astype(np.int32), node.attributes.get("group", 1)
    # A convolution in groups of one channel is a depthwise one, whose layer has the channels on another axis.
    depthwise = node.kind == "Conv" and groups > 1 and kernel.layer_shape[2:3] == (groups,)
    if values.ndim == 4:  # of Conv (out, in, height, width), of ConvTranspose (in, out, height, width)
        values = values.transpose(2, 3, 1, 0)
    elif node.attributes.get("transB"):
        values = values.T
    if depthwise:
        values = values.reshape(*values.shape[:2], groups, -1)
    if len(kernel.layer_shape) == 2:  # a dense layer on images, which is a convolution of one pixel
        values = values.reshape(kernel.layer_shape)
    return FileKernel(node.name, values, kernel.scale, depthwise, kernel.bits, coarser=kernel.coarser, layer=layer)


def with_positive_scales(kernel: Kernel) -> Kernel:
    """The same kernel, channels of scale zero written as integers of zero with a scale above zero."""
    dead = kernel.scale <= np.finfo(np.float32).tiny
    if not dead.any():
        return kernel
    shape = [-1 if axis == kernel.axis else 1 for axis in range(kernel.integers.ndim)]
    integers = np.where(dead.reshape(shape), np.int8(0), kernel.integers)
    return replace(kernel, integers=integers, scale=np.where(dead, kernel.scale.max() or 1.0, kernel.scale))
