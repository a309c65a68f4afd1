"""The forms in which ONNX Runtime's CPU kernels run Q/DQ in integers: unsigned activations, biases in 32 bits.

It makes one QLinearConv of a convolution only where a Q follows it directly, or a ReLU that the Q does anyway because
its lowest integer stands for zero.

Source: ONNX Runtime, "Quantize ONNX models", https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from resnet_backbones.export.onnx.fold import scale_and_offset
from resnet_backbones.export.onnx.kernels import WEIGHTED, Kernel, shapes_of, with_positive_scales
from resnet_backbones.export.onnx.nodes import Graph, Node
from resnet_backbones.quantization.bias_rounding import MOST_BIAS


def rectify_by_range(graph: Graph) -> None:
    """Gives what a ReLU makes a range from zero on, whatever the scheme, so that rounding to it does the ReLU's work.

    A symmetric range reaches as far below zero, where there is nothing. Its upper half, in the same steps, is 0 to 127
    of 0 to 255; a minimum keeps values out of the rest, where the Keras model clips them.
    """
    for node in graph.of_kind("QuantizeLinear"):
        source = graph.producer(node.inputs[0])
        if source is None or source.kind not in ("Relu", "Clip"):
            continue
        scale, zero = (graph.constants[name] for name in node.inputs[1:3])
        most = 255 - int(zero)
        if source.kind == "Clip":
            low, high = (graph.constants.get(name) for name in source.inputs[1:3])
            within = low is not None and high is not None and low == 0 and most * scale <= high * (1 + 1e-6)
            if not within or graph.only_consumer(source.output) is None:
                continue
            source.kind, source.inputs = "Relu", source.inputs[:1]
            # What it makes is no longer what the layer returns, so it does not keep the name.
            node.inputs[0] = graph.new_name(f"{source.output}_from_zero")
            source.outputs = [node.inputs[0]]
        if zero == 0:
            continue
        node.inputs[2] = graph.constant(np.uint8(0), f"{node.name}_from_zero")
        readers = graph.consumers(node.output)
        limited = graph.add(
            "Min", [node.output, graph.constant(np.uint8(most), f"{node.name}_most")], f"{node.output}_limited"
        )
        for reader in readers:
            reader.inputs = [limited, node.inputs[1], node.inputs[2]]


def convolve_lone_batch_norms(
    graph: Graph, kernels: dict[str, Kernel], in_float: Callable[[str], bool] = lambda name: False
) -> None:
    """Makes a depthwise 1x1 convolution of a product and a sum a channel that no convolution took in.

    Its kernel, one number a channel with a scale of its own, is exact.

    Args:
        graph: changed in place.
        kernels: quantized kernels by name of the tensor that stands for them; gains those made.
        in_float: whether a layer that stays in float computes the tensor of a name.
    """
    shapes = graph.shapes(shapes_of(kernels))
    for start in graph.of_kind("DequantizeLinear"):
        shape = shapes.get(start.output, [])
        channels = shape[1] if len(shape) == 4 else None
        if channels is None:
            continue
        for reader in graph.consumers(start.output):
            line = _line(graph, start.output, reader, channels)
            if line is None or in_float(line[0].output):
                continue
            last, scale, offset = line
            shaped = np.where(scale < 0, -127, 127).astype(np.int8).reshape(-1, 1, 1, 1)
            kernel = graph.new_name(f"{reader.name}_kernel")
            kernels[kernel] = Kernel(shaped, np.abs(scale) / 127, 0)
            bias = graph.constant(offset.astype(np.float32), f"{reader.name}_bias")
            graph.remove(last)
            graph.nodes.append(
                Node("Conv", [start.output, kernel, bias], [last.output], {"group": channels}, last.name)
            )
    graph.remove_unused()


def _line(graph: Graph, source: str, node: Node, channels: int) -> tuple[Node, np.ndarray, np.ndarray] | None:
    """The last of the nodes that only multiply and add, what they do together; ``None`` if none differs by channel."""
    scale, offset, last = np.ones(channels), np.zeros(channels), None
    following: Node | None = node
    while following is not None:
        found = scale_and_offset(graph, source, following, channels, 4)
        if found is None:
            break
        scale, offset, last = scale * found[0], offset * found[0] + found[1], following
        source = following.output
        following = graph.only_consumer(source)
    return None if last is None or (np.ptp(scale) == 0 and np.ptp(offset) == 0) else (last, scale, offset)


def make_room_for_biases(graph: Graph, kernels: dict[str, Kernel]) -> None:
    """Gives channels whose bias would not fit 32 bits a larger scale, with integers that are zero or nearly so.

    They are those that a batch norm's scale has all but switched off. For a file with float biases too: ONNX Runtime
    writes those in 32 bits itself when it loads the file.

    Args:
        graph: the graph.
        kernels: quantized kernels by name of the tensor that stands for them; changed in place.
    """
    for node, bias, step in _biases(graph, kernels):
        kernel = with_positive_scales(kernels[node.inputs[1]])
        kernels[node.inputs[1]] = _with_room(kernel, np.abs(bias) / step)


def _biases(graph: Graph, kernels: dict[str, Kernel]) -> Iterator[tuple[Node, np.ndarray, float]]:
    """Each weighted node that computes in integers and has a bias, its bias, and the step of its input."""
    for node in graph.of_kind(*WEIGHTED):
        before = graph.producer(node.inputs[0])
        bias = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        if bias is None or before is None or before.kind != "DequantizeLinear" or node.inputs[1] not in kernels:
            continue
        yield node, bias, float(graph.constants[before.inputs[1]])


def quantize_biases(graph: Graph, kernels: dict[str, Kernel]) -> None:
    """Writes biases in 32 bits, in steps of input scale times kernel scale, where a Q follows.

    Args:
        graph: changed in place.
        kernels: quantized kernels, with room for their biases.
    """
    for node, bias, step in _biases(graph, kernels):
        if not _is_rounded(graph, node):
            continue
        scale = (step * kernels[node.inputs[1]].scale).astype(np.float32)
        whole = graph.constant(np.round(bias / scale.astype(np.float64)).astype(np.int32), f"{node.name}_bias_int32")
        steps = graph.constant(scale, f"{node.name}_bias_scale")
        zeros = graph.constant(np.zeros(len(scale), np.int32), f"{node.name}_bias_zero_point")
        node.inputs[2] = graph.add("DequantizeLinear", [whole, steps, zeros], f"{node.name}_bias_dequantized", axis=0)


def _is_rounded(graph: Graph, node: Node) -> bool:
    """Whether a Q follows a node, or a ReLU and a Q."""
    reader = graph.only_consumer(node.output)
    if reader is not None and reader.kind == "Relu":
        reader = graph.only_consumer(reader.output)
    return reader is not None and reader.kind == "QuantizeLinear"


def _with_room(kernel: Kernel, bias: np.ndarray) -> Kernel:
    """The kernel with scales large enough for a bias, given in steps of the input, to fit 32 bits."""
    least = bias / MOST_BIAS
    if np.all(kernel.scale >= least):
        return kernel
    scale = np.maximum(kernel.scale, least)
    shape = [-1 if axis == kernel.axis else 1 for axis in range(kernel.integers.ndim)]
    integers = np.round(kernel.integers * (kernel.scale / scale).reshape(shape)).astype(np.int8)
    return replace(kernel, integers=integers, scale=scale, coarser=kernel.scale < least)
