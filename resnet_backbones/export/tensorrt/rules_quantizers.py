"""Rules on Q and DQ themselves: their types, scales, zero points and how they pair up."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx

from resnet_backbones.export.tensorrt.findings import (
    DEQUANTIZE_PAGE,
    LIMITATIONS,
    ONNX_SUPPORT,
    PLACEMENT,
    PROCESSING,
    QUANTIZE_PAGE,
    Found,
    rule,
)
from resnet_backbones.export.tensorrt.graph import DEQUANTIZE, QUANTIZE, Graph, Node, type_name
from resnet_backbones.export.tensorrt.structure import same_scale, scale_of, weighted_layers

_T = onnx.TensorProto


@rule("int8", ONNX_SUPPORT)
def int8(graph: Graph) -> Found:
    """TensorRT's 8-bit integers are signed; uint8 is refused."""
    for node in graph.of(QUANTIZE, DEQUANTIZE):
        kind = _quantized_type(graph, node)
        if kind == _T.UINT8 and not node.input(2) and node.op == QUANTIZE:
            yield "error", node.name, "without a zero point ONNX means uint8: give it an int8 zero point of 0."
        elif kind not in (None, _T.INT8):
            yield "error", node.name, f"quantizes to {type_name(kind)}: use INT8, symmetric, zero point 0."


def for_onnxruntime(graph: Graph) -> bool:
    """Whether a file is in the form of ONNX Runtime's fast kernels: all that Q rounds becomes uint8."""
    kinds = [_quantized_type(graph, node) for node in graph.of(QUANTIZE)]
    return len(kinds) > 1 and set(kinds) == {_T.UINT8}


def _quantized_type(graph: Graph, node: Node) -> int | None:
    """The integer type of a Q or DQ; ``None`` where only the tensor it reads could tell."""
    if node.input(2):
        return graph.dtype(node.input(2))
    if node.op == QUANTIZE:
        return node.attributes.get("output_dtype", 0) or _T.UINT8
    return graph.dtype(node.input(0))


@rule("zero-points", QUANTIZE_PAGE)
def zero_points(graph: Graph) -> Found:
    """Quantization is symmetric: a real 0 is the integer 0."""
    for node in graph.of(QUANTIZE, DEQUANTIZE):
        zero, scale = graph.value(node.input(2)), graph.dims(node.input(1))
        if zero is None:
            continue
        if np.any(zero):
            yield "error", node.name, f"zero point {zero.reshape(-1)[:3].tolist()}: quantize symmetrically, all zeros."
        elif scale is not None and zero.size != int(np.prod(scale)):
            yield "error", node.name, f"{zero.size} zero points for {int(np.prod(scale))} scales: as many as scales."


@rule("scales", DEQUANTIZE_PAGE)
def scales(graph: Graph) -> Found:
    """A scale divides: each must be finite and above 0."""
    for node in graph.of(QUANTIZE, DEQUANTIZE):
        scale = scale_of(graph, node)
        if scale is None:
            continue
        bad = ~(np.isfinite(scale.astype(np.float64)) & (scale > 0))
        if np.any(bad) or scale.size == 0:
            first = scale[bad].reshape(-1)[:1].tolist()
            yield "error", node.name, f"{int(np.sum(bad))} scales like {first}: raise scales of dead channels above 0."


@rule("constant-scales", QUANTIZE_PAGE)
def constant_scales(graph: Graph) -> Found:
    """Scales and zero points are chosen when the engine is built."""
    for node in graph.of(QUANTIZE, DEQUANTIZE):
        for what, tensor in (("scale", node.input(1)), ("zero point", node.input(2))):
            if tensor and not graph.is_constant(tensor):
                yield "error", node.name, f"its {what} {tensor} is computed: store it as an initializer."


@rule("per-tensor", PLACEMENT)
def per_tensor(graph: Graph) -> Found:
    """Activations have one scale a tensor; a scale a channel is for kernels."""
    for node in graph.of(QUANTIZE, DEQUANTIZE):
        count = int(np.prod(graph.dims(node.input(1)) or (1,)))
        if count != 1 and not graph.from_constants(node.input(0)):
            yield "error", node.name, f"{count} scales on an activation: use one, the largest."


@rule("pairs", PROCESSING)
def pairs(graph: Graph) -> Found:
    """A Q and the DQ behind it are what a layer absorbs; one without the other is left over."""
    for q in graph.of(QUANTIZE):
        readers = graph.consumers(q.output)
        if q.output in graph.outputs:
            yield "warning", q.name, "its integers are an output of the model: end with a DequantizeLinear."
        elif not readers:
            yield "error", q.name, "no DequantizeLinear behind it: add one, or remove it."
        for node in readers:
            if node.op != DEQUANTIZE:
                yield "error", q.name, f"its integers go to {node.op} {node.name}: put the DequantizeLinear before it."
            elif not same_scale(graph, q, node):
                yield "error", node.name, f"its scale differs from that of {q.name}: give both the same."
    for dq in graph.of(DEQUANTIZE):
        if not graph.consumers(dq.output) and dq.output not in graph.outputs:
            yield "error", dq.name, "nothing reads it: remove it and its QuantizeLinear."
        source = graph.producer(dq.input(0))
        if source is not None and source.op != QUANTIZE:
            yield "error", dq.name, f"{source.op} {source.name} stands between it and its QuantizeLinear: move it out."


@rule("requantized", PROCESSING)
def requantized(graph: Graph) -> Found:
    """A DQ that runs into the next Q is no layer's: values are rounded twice, in a kernel of its own."""
    for q in graph.of(QUANTIZE):
        dq = graph.made_by(q.input(0), DEQUANTIZE)
        if dq is None:
            continue
        if same_scale(graph, dq, q):
            yield "warning", q.name, f"quantizes again what {dq.name} gives, with its scale: remove this pair."
        else:
            yield "error", q.name, f"quantizes again what {dq.name} gives, with another scale: keep one of the two."


@rule("one-scale", LIMITATIONS)
def one_scale(graph: Graph) -> Found:
    """Qs on one tensor move up to its layer only where their scales are equal."""
    readers: dict[str, list[Node]] = defaultdict(list)
    for q in graph.of(QUANTIZE):
        readers[q.input(0)].append(q)
    for tensor, quantizers in readers.items():
        for other in quantizers[1:]:
            if not graph.from_constants(tensor) and not same_scale(graph, quantizers[0], other):
                yield "warning", other.name, f"{tensor} has another scale in {quantizers[0].name}: use one for both."


@rule("foldable", ONNX_SUPPORT)
def foldable(graph: Graph) -> Found:
    """A Q on an initializer is folded when building; what else makes a constant may not be."""
    kernels = {layer.kernel_source for layer in weighted_layers(graph)}
    for q in graph.of(QUANTIZE):
        if graph.is_constant(q.input(0)):
            what = "kernel" if q.input(0) in kernels else "constant"
            yield "info", q.name, f"a float {what}: store it in int8 behind a DQ, a quarter of the size."
        elif graph.from_constants(q.input(0)):
            yield "error", q.name, f"its constant {q.input(0)} is computed: fold it into an initializer."
