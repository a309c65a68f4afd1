"""All rules, in the order their table is read: importing this module fills :data:`RULES`.

Those on the file, and on Q and DQ themselves, come from ``rules_quantizers.py``. Those on layers are here: what makes
kernels run in int8, and where Q and DQ keep layers from running as one.
``python -m resnet_backbones.export.tensorrt.rules`` prints the table in docs/tensorrt.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from resnet_backbones.export.tensorrt import rules_quantizers  # noqa: F401 - its rules come first in the table
from resnet_backbones.export.tensorrt.findings import ONNX_SUPPORT, PLACEMENT, PROCESSING, RULES, Found, rule
from resnet_backbones.export.tensorrt.graph import (
    ACTIVATIONS,
    AVERAGING,
    CONVOLUTIONS,
    DEQUANTIZE,
    LARGEST,
    QUANTIZE,
    WEIGHTED,
    FileGraph,
    FileNode,
    dequantized,
    is_int8,
    quantized_next,
    readers_behind_pairs,
    same_scale,
    weighted_layers,
    without_pairs,
)


@rule("per-channel", PLACEMENT)
def per_channel(graph: FileGraph) -> Found:
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
            yield ("warning", layer.node.name, f"one scale for the kernel of {layout}: use {dims[layer.axis]}.")
        elif count > 1 and axis != layer.axis:
            yield "error", layer.node.name, f"scales on axis {axis} of {layout}: output channels are axis {layer.axis}."
        elif count > 1 and count != dims[layer.axis]:
            yield ("error", layer.node.name, f"{count} scales for {dims[layer.axis]} channels of {layout}: as many.")


@rule("kernel-direct", PLACEMENT)
def kernel_direct(graph: FileGraph) -> Found:
    """The layer absorbs the DQ of its kernel only where nothing stands between."""
    for layer in weighted_layers(graph):
        for node in layer.between:
            yield "error", layer.node.name, f"{node.op} {node.name} between its kernel's DQ and it: apply it before Q."


@rule("kernel-once", ONNX_SUPPORT)
def kernel_once(graph: FileGraph) -> Found:
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
def half_quantized(graph: FileGraph) -> Found:
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
def input_direct(graph: FileGraph) -> Found:
    """A layer absorbs the DQ before it; padding between the two is left to chance."""
    for layer in weighted_layers(graph):
        pad = graph.made_by(layer.data, "Pad")
        if pad is not None and layer.kernel_dq is not None and dequantized(graph, layer.data) is not None:
            yield "warning", layer.node.name, f"{pad.name} between its input's DQ and it: write it as its pads."


@rule("float-bias", ONNX_SUPPORT)
def float_bias(graph: FileGraph) -> Found:
    """A bias is added in float; TensorRT does not read int32 behind a DQ."""
    for node in graph.of(*CONVOLUTIONS, "Gemm"):
        if graph.made_by(node.input(2), DEQUANTIZE, QUANTIZE):
            yield "error", node.name, "its bias is quantized: store it in float."


_NORM = "BatchNormalization"
FLOAT_ONLY = (
    *("Softmax", "LogSoftmax", "Exp", "Log", "Sqrt", "Pow", "Erf", "LayerNormalization", "InstanceNormalization"),
    *("TopK", "ArgMax", "NonMaxSuppression", "Cast"),
)


def _fuses(graph: FileGraph, node: FileNode, *ops: str) -> tuple[FileNode, bool] | None:
    """The layer of these operators that a node could run in the kernel of, and whether Q/DQ stand between the two.

    ``None`` where there is no such layer, or others read what the layer gives: then it has to be written anyway.
    """
    computed = [tensor for tensor in node.inputs if not graph.from_constants(tensor)]
    if len(computed) != 1:
        return None
    source = without_pairs(graph, computed[0])
    layer = graph.made_by(source, *ops)
    readers = readers_behind_pairs(graph, source)
    # x * sigmoid(x) is one activation: the product reads x too.
    others = [one for one in readers if one is not node and not (one.op == "Mul" and node.output in one.inputs)]
    if layer is None or source in graph.outputs or others:
        return None
    return layer, source != computed[0]


@rule("batch-norm", PLACEMENT)
def batch_norm(graph: FileGraph) -> Found:
    """Convolution and batch norm become one kernel; Q/DQ between them, or other runtimes, forbid it."""
    for node in graph.of(_NORM):
        layer, quantized = _fuses(graph, node, *WEIGHTED) or (None, False)
        if layer is not None and quantized:
            yield "error", node.name, f"Q/DQ between {layer.name} and it: remove them and fold it into the kernel."
        elif layer is not None:
            yield "warning", node.name, f"not folded into {layer.name}: fold it, before the kernel is quantized."


@rule("activation", PLACEMENT)
def activation(graph: FileGraph) -> Found:
    """A convolution and its activation become one kernel, unless Q/DQ stand between."""
    for node in graph.of(*ACTIVATIONS, "Add", "Sub", "Mul", "Div"):  # those by a constant: x * relu6(x + 3) / 6
        layer, quantized = _fuses(graph, node, *WEIGHTED, _NORM) or (None, False)
        if layer is not None and quantized:
            yield "error", node.name, f"Q/DQ between {layer.name} and it: quantize behind it instead."


@rule("add-activation", PLACEMENT)
def add_activation(graph: FileGraph) -> Found:
    """An addition and its activation run in the convolution's kernel, unless Q/DQ stand between."""
    for node in graph.of(*ACTIVATIONS):
        addition, quantized = _fuses(graph, node, "Add") or (None, False)
        if addition is not None and quantized:
            yield "error", node.name, f"Q/DQ between {addition.name} and it: quantize behind it instead."


@dataclass(frozen=True)
class Addend:
    """One input of an addition."""

    tensor: str
    quantized: bool
    layer: FileNode | None  # the int8 convolution whose kernel could add this up, ``None`` if there is none
    depth: int  # how many layers with kernels it comes from


def additions(graph: FileGraph) -> list[tuple[FileNode, list[Addend]]]:
    """All additions of two or more computed tensors."""
    layers = {id(layer.node) for layer in weighted_layers(graph) if is_int8(graph, layer)}
    found = []
    for node in graph.of("Add", "Sum"):
        tensors = [tensor for tensor in node.inputs if not graph.from_constants(tensor)]
        if len(tensors) > 1:
            found.append((node, [_addend(graph, tensor, layers) for tensor in tensors]))
    return found


def _addend(graph: FileGraph, tensor: str, int8_layers: set[int]) -> Addend:
    quantized = dequantized(graph, tensor) is not None
    layer, alone = graph.producer(tensor), graph.only_read_by(tensor) is not None
    while alone and layer is not None and layer.op in (QUANTIZE, DEQUANTIZE, _NORM):
        alone = graph.only_read_by(layer.input(0)) is not None
        layer = graph.producer(layer.input(0))
    fusable = alone and layer is not None and id(layer) in int8_layers
    depth = sum(node.op in WEIGHTED for node in graph.upstream(tensor))
    return Addend(tensor, quantized, layer if fusable else None, depth)


@rule("residual-branch", PLACEMENT)
def residual_branch(graph: FileGraph) -> Found:
    """A convolution adds the shortcut in its accumulators, unless Q/DQ stand between the two."""
    for node, addends in additions(graph):
        fusable = [one for one in addends if one.layer is not None]
        if fusable and all(one.quantized for one in fusable):
            layer = max(fusable, key=lambda one: one.depth).layer
            yield "error", node.name, f"Q/DQ between {layer.name if layer else ''} and it: quantize the shortcut only."


@rule("residual-shortcut", PLACEMENT)
def residual_shortcut(graph: FileGraph) -> Found:
    """A convolution that adds a float shortcut writes float, and the Q behind it is left over."""
    for node, addends in additions(graph):
        fusable = [one for one in addends if one.layer is not None]
        free = [one for one in addends if not one.quantized]
        if not fusable or len(free) == 0:
            continue
        fused = max((one for one in free if one.layer is not None), key=lambda one: one.depth, default=None)
        for one in free:
            if one is not fused:
                yield "error", node.name, f"its shortcut {one.tensor} is not quantized: put Q/DQ on it."


@rule("elementwise", PLACEMENT)
def elementwise(graph: FileGraph) -> Found:
    """An operator without kernel runs in int8 only when all it reads is quantized."""
    fused = {id(node) for node, addends in additions(graph) if any(one.layer is not None for one in addends)}
    for node in graph.of("Add", "Sum", "Sub", "Mul", "Div", "Max", "Min", "Concat"):
        tensors = [tensor for tensor in node.inputs if not graph.from_constants(tensor)]
        quantized = [tensor for tensor in tensors if dequantized(graph, tensor) is not None]
        if id(node) not in fused and 0 < len(quantized) < len(tensors) and not _activates(graph, node):
            other = next(tensor for tensor in tensors if tensor not in quantized)
            yield "warning", node.name, f"reads {quantized[0]} quantized and {other} in float: quantize all or none."


def _activates(graph: FileGraph, node: FileNode) -> bool:
    """Whether a product is the end of an activation, ``x * sigmoid(x)``: it reads what the rest of it reads."""
    factors = [graph.made_by(tensor, *ACTIVATIONS) for tensor in node.inputs] if node.op == "Mul" else []
    return any(factor is not None and factor.input(0) in node.inputs for factor in factors)


@rule("needless", PROCESSING)
def needless(graph: FileGraph) -> Found:
    """What has no int8 form computes in float; Q/DQ before it only round."""
    for dq in graph.of(DEQUANTIZE):
        if dq.output in graph.outputs and graph.made_by(dq.input(0), QUANTIZE):
            yield "warning", dq.name, f"rounds the output {dq.output} and speeds nothing up: remove it and its Q."
        for node in graph.consumers(dq.output):
            if node.op in FLOAT_ONLY:
                yield "warning", dq.name, f"{node.op} {node.name} computes in float: remove Q/DQ before it."


def _int8_layers(graph: FileGraph) -> set[int]:
    return {id(layer.node) for layer in weighted_layers(graph) if is_int8(graph, layer)}


@rule("average-pool", PLACEMENT)
def average_pool(graph: FileGraph) -> Found:
    """Averaging does not commute with Q: it runs in int8 between its own DQ and a Q."""
    int8 = _int8_layers(graph)
    for node in graph.of(*AVERAGING):
        reads, gives = dequantized(graph, node.input(0)) is not None, bool(quantized_next(graph, node.output))
        if not reads and any(id(one) in int8 for one in graph.upstream(node.input(0))):
            yield "warning", node.name, "it averages float behind int8 layers: put Q/DQ on its input."
        elif reads and not gives:
            yield "info", node.name, "reads int8 and gives float: averages in float, as before a float head it may."


@rule("max-pool", PROCESSING)
def max_pool(graph: FileGraph) -> Found:
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
def transpose(graph: FileGraph) -> Found:
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


def _undone_by(graph: FileGraph, node: FileNode) -> FileNode | None:
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


def _moves_ones(node: FileNode) -> bool:
    """Whether a transpose leaves everything where it is."""
    order = node.attributes.get("perm")
    return order is not None and list(order) == sorted(order)


def rules_markdown() -> str:
    """The rules as a Markdown table, each with its reason and the page it comes from; the pages' addresses below it."""
    lines = ["| rule | why | documented in |", "| --- | --- | --- |"]
    lines += [f"| `{one.name}` | {one.reason} | [{one.source.title}] |" for one in RULES.values()]
    sources = dict.fromkeys(one.source for one in RULES.values())
    return "\n".join([*lines, "", *(f"[{source.title}]: {source.url}" for source in sources)]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(rules_markdown())
