"""Rules on layers with kernels: what makes a convolution or matrix product run in int8."""

from __future__ import annotations

import numpy as np

from resnet_backbones.export.tensorrt.findings import ONNX_SUPPORT, PLACEMENT, PROCESSING, Found, rule
from resnet_backbones.export.tensorrt.graph import DEQUANTIZE, QUANTIZE, Graph
from resnet_backbones.export.tensorrt.structure import CONVOLUTIONS, dequantized, weighted_layers


@rule("per-channel", PLACEMENT)
def per_channel(graph: Graph) -> Found:
    """A kernel has a scale for each of its output channels: that keeps the most precision."""
    for layer in weighted_layers(graph):
        dims = graph.dims(layer.kernel_source)
        if layer.kernel_dq is None or not dims or layer.between:
            continue
        scale = graph.dims(layer.kernel_dq.input(1)) or ()
        count = int(np.prod(scale))
        axis = layer.kernel_dq.attributes.get("axis", 1)
        axis += len(dims) if axis < 0 else 0
        layout = f"{layer.node.op} {list(dims)}"
        if count == 1 and dims[layer.axis] > 1:
            yield (
                "warning",
                layer.node.name,
                f"one scale for the kernel of {layout}: use {dims[layer.axis]}.",
            )
        elif count > 1 and axis != layer.axis:
            yield "error", layer.node.name, f"scales on axis {axis} of {layout}: output channels are axis {layer.axis}."
        elif count > 1 and count != dims[layer.axis]:
            yield (
                "error",
                layer.node.name,
                f"{count} scales for {dims[layer.axis]} channels of {layout}: as many.",
            )


@rule("kernel-direct", PLACEMENT)
def kernel_direct(graph: Graph) -> Found:
    """The layer absorbs the DQ of its kernel only where nothing stands between."""
    for layer in weighted_layers(graph):
        for node in layer.between:
            yield "error", layer.node.name, f"{node.op} {node.name} between its kernel's DQ and it: apply it before Q."


@rule("kernel-once", ONNX_SUPPORT)
def kernel_once(graph: Graph) -> Found:
    """A kernel is an int8 initializer and a DQ, or a float one, a Q and a DQ; no more."""
    for layer in weighted_layers(graph):
        if layer.kernel_dq is None:
            continue
        quantizer = graph.producer(layer.kernel_dq.input(0))
        if quantizer is None or quantizer.op != QUANTIZE:
            continue
        above = list(graph.upstream(quantizer.input(0)))
        again = next((node for node in above if node.op in (QUANTIZE, DEQUANTIZE)), None)
        if again is not None:
            yield "error", layer.node.name, f"its kernel is quantized twice, in {again.name} too: once is enough."


@rule("half-quantized", PLACEMENT)
def half_quantized(graph: Graph) -> Found:
    """A layer runs in int8 when its input and its kernel are both quantized, else in float."""
    layers = weighted_layers(graph)
    kernels = {id(layer.node) for layer in layers if layer.kernel_dq is not None}
    for layer in layers:
        data = dequantized(graph, layer.data)
        if layer.kernel_dq is not None and data is None:
            yield "error", layer.node.name, f"its kernel is quantized, its input {layer.data} is not: put Q/DQ there."
        elif layer.kernel_dq is None and data is not None and graph.only_read_by(data.output) is not None:
            last = not any(id(node) in kernels for node in graph.downstream(layer.node.output))
            severity = "warning" if last else "error"
            yield severity, layer.node.name, "its input is quantized, its kernel is not: quantize both or neither."


@rule("input-direct", PROCESSING)
def input_direct(graph: Graph) -> Found:
    """A layer absorbs the DQ before it; padding between the two is left to chance."""
    for layer in weighted_layers(graph):
        pad = graph.made_by(layer.data, "Pad")
        if pad is not None and layer.kernel_dq is not None and dequantized(graph, layer.data) is not None:
            yield "warning", layer.node.name, f"{pad.name} between its input's DQ and it: write it as its pads."


@rule("float-bias", ONNX_SUPPORT)
def float_bias(graph: Graph) -> Found:
    """A bias is added in float; TensorRT does not read int32 behind a DQ."""
    for node in graph.of(*CONVOLUTIONS, "Gemm"):
        if graph.made_by(node.input(2), DEQUANTIZE, QUANTIZE):
            yield "error", node.name, "its bias is quantized: store it in float."
