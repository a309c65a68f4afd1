"""An ONNX graph as the rules look at it: who makes and who reads each tensor, and where int8 reaches its layers."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(eq=False)
class FileNode:
    """One operator. Names of tensors that an optional input leaves out are ``""``."""

    name: str
    op: str
    domain: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    captured: list[str] = field(default_factory=list)  # outer tensors its subgraphs read

    def input(self, position: int) -> str:
        """The tensor at a position; ``""`` where the node has none."""
        return self.inputs[position] if position < len(self.inputs) else ""

    @property
    def output(self) -> str:
        """Its first output."""
        return self.outputs[0] if self.outputs else ""


class FileGraph:
    """A model, read once.

    Args:
        model: with its external data loaded, as far as it is there.
        external: names of the initializers the file keeps elsewhere.
        missing: why their data could not be read; ``None`` where it could.
    """

    def __init__(self, model: onnx.ModelProto, external: list[str] | None = None, missing: str | None = None):
        self.model = model
        self.external = external if external is not None else _external(model)
        self.missing = missing
        self.opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.nodes: list[FileNode] = []
        for proto in model.graph.node:
            if proto.op_type == "Constant" and any(one.name == "value" for one in proto.attribute):
                value = next(one.t for one in proto.attribute if one.name == "value")
                self.initializers[proto.output[0]] = value
            else:
                self.nodes.append(_node(proto))
        self.inputs = [one.name for one in model.graph.input if one.name not in self.initializers]
        self.outputs = [one.name for one in model.graph.output]
        self._producer = {name: node for node in self.nodes for name in node.outputs if name}
        self._consumers: dict[str, list[FileNode]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys([*node.inputs, *node.captured]):
                self._consumers[name].append(node)
        self.in_order = self._is_in_order()
        self._known = self._computed_from_constants()

    def _is_in_order(self) -> bool:
        """Whether each node stands behind those it reads, as ONNX wants: then there are no circles."""
        place = {name: i for i, node in enumerate(self.nodes) for name in node.outputs}
        return all(
            place.get(name, -1) < i
            for i, node in enumerate(self.nodes)
            for name in [*node.inputs, *node.captured]
            if name
        )

    def _computed_from_constants(self) -> set[str]:
        known = set(self.initializers)
        for node in self.nodes:
            read = [name for name in [*node.inputs, *node.captured] if name]
            if node.op == "Constant" or (read and known.issuperset(read)):
                known.update(node.outputs)
        return known

    def of(self, *ops: str) -> Iterator[FileNode]:
        """The nodes of some operators, in the file's order."""
        return (node for node in self.nodes if node.op in ops)

    def producer(self, tensor: str) -> FileNode | None:
        """The node a tensor comes from; ``None`` for inputs and constants."""
        return self._producer.get(tensor)

    def made_by(self, tensor: str, *ops: str) -> FileNode | None:
        """The node a tensor comes from, if it is one of these operators."""
        node = self._producer.get(tensor)
        return node if node is not None and node.op in ops else None

    def consumers(self, tensor: str) -> list[FileNode]:
        """The nodes that read a tensor, each once."""
        return self._consumers.get(tensor, [])

    def only_read_by(self, tensor: str) -> FileNode | None:
        """The one node that reads a tensor, if nothing else does."""
        readers = self.consumers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def is_constant(self, tensor: str) -> bool:
        """Whether the file holds the tensor's value."""
        return tensor in self.initializers

    def value(self, tensor: str) -> np.ndarray | None:
        """A constant's value; ``None`` for what is computed, and where external data is missing."""
        proto = self.initializers.get(tensor)
        if proto is None or uses_external_data(proto):
            return None
        try:
            return numpy_helper.to_array(proto)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Constant {tensor} is damaged: {error}. Copy or export the file again.") from error

    def dims(self, tensor: str) -> tuple[int, ...] | None:
        """A constant's shape; ``None`` for what is computed."""
        proto = self.initializers.get(tensor)
        return None if proto is None else tuple(proto.dims)

    def dtype(self, tensor: str) -> int | None:
        """A constant's ``onnx.TensorProto`` type; ``None`` for what is computed."""
        proto = self.initializers.get(tensor)
        return None if proto is None else proto.data_type

    def from_constants(self, tensor: str) -> bool:
        """Whether a tensor's value is known when the engine is built."""
        return tensor in self._known

    def upstream(self, tensor: str) -> Iterator[FileNode]:
        """All nodes a tensor's value comes from."""
        pending, seen = [tensor], set()
        while pending:
            node = self.producer(pending.pop())
            if node is not None and id(node) not in seen:
                seen.add(id(node))
                yield node
                pending += [*node.inputs, *node.captured]

    def downstream(self, tensor: str) -> Iterator[FileNode]:
        """All nodes a tensor's value goes to."""
        pending, seen = [tensor], set()
        while pending:
            for node in self.consumers(pending.pop()):
                if id(node) not in seen:
                    seen.add(id(node))
                    yield node
                    pending += node.outputs


def type_name(kind: int) -> str:
    """Name of an ``onnx.TensorProto`` type; its number where ONNX has none."""
    return onnx.TensorProto.DataType.Name(kind) if kind in onnx.TensorProto.DataType.values() else f"type {kind}"


def read_graph(source: str | os.PathLike[str] | onnx.ModelProto) -> FileGraph:
    """Reads a file, or takes a model as it is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no whole ONNX file.
    """
    if isinstance(source, onnx.ModelProto):
        return FileGraph(source)
    path = Path(source)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a folder, a pipe or a device, not an ONNX file.")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path} is no ONNX file, or is cut short: {error}. Copy or export it again.") from error
    if not model.graph.node:
        raise ValueError(f"{path} holds no graph: it is no ONNX file, or is cut short. Copy or export it again.")
    external, missing = _external(model), None
    if external:
        try:
            load_external_data_for_model(model, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            missing = str(error).splitlines()[0]
    return FileGraph(model, external, missing)


def _external(model: onnx.ModelProto) -> list[str]:
    return [tensor.name for tensor in model.graph.initializer if uses_external_data(tensor)]


def _node(proto: onnx.NodeProto) -> FileNode:
    outputs = list(proto.output)
    name = proto.name or f"{proto.op_type} of {outputs[0] if outputs else '?'}"
    attributes, captured = {}, []
    for attribute in proto.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            captured += _captured(attribute.g)
        elif attribute.type != onnx.AttributeProto.GRAPHS:
            attributes[attribute.name] = onnx.helper.get_attribute_value(attribute)
    return FileNode(name, proto.op_type, proto.domain, list(proto.input), outputs, attributes, captured)


def _captured(graph: onnx.GraphProto) -> list[str]:
    own = {one.name for one in [*graph.input, *graph.initializer]} | {name for n in graph.node for name in n.output}
    read = [name for node in graph.node for name in _node(node).inputs + _node(node).captured]
    return [name for name in [*read, *(one.name for one in graph.output)] if name and name not in own]


CONVOLUTIONS = ("Conv", "ConvTranspose")
WEIGHTED = (*CONVOLUTIONS, "Gemm", "MatMul")
ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Tanh"),
    *("Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus", "Softsign"),
)
AVERAGING = ("AveragePool", "GlobalAveragePool", "ReduceMean")
LARGEST = ("MaxPool", "GlobalMaxPool")
# What only moves or picks values gives the same before and after Q and DQ: it "commutes".
MOVING = (
    *LARGEST,
    *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "DepthToSpace", "SpaceToDepth"),
    *("Expand", "Gather", "Slice", "Split", "Tile"),
)


@dataclass(frozen=True)
class WeightedLayer:
    """A convolution or matrix product with a kernel.

    Attributes:
        node: the operator.
        data: tensor it reads.
        kernel: tensor it multiplies by.
        axis: the kernel's axis of output channels.
        kernel_dq: the DequantizeLinear the kernel comes from, ``None`` in float.
        between: operators between that and the layer.
        kernel_source: the tensor at the kernel's root: the initializer, where there is one.
    """

    node: FileNode
    data: str
    kernel: str
    axis: int
    kernel_dq: FileNode | None
    between: list[FileNode]
    kernel_source: str


def weighted_layers(graph: FileGraph) -> list[WeightedLayer]:
    """All layers with kernels. A product of two activations (attention) has none and is not among them."""
    found = []
    for node in graph.of(*WEIGHTED):
        position = 1
        if node.op == "MatMul" and not graph.from_constants(node.input(1)):
            position = 0
        if node.op == "MatMul" and not graph.from_constants(node.input(position)):
            continue
        kernel = node.input(position)
        dq, between, source = _kernel_path(graph, kernel)
        axis = _output_axis(node, position, len(graph.dims(source) or (0, 0)))
        found.append(WeightedLayer(node, node.input(1 - position), kernel, axis, dq, between, source))
    return found


def _output_axis(node: FileNode, position: int, rank: int) -> int:
    if node.op == "MatMul":
        return rank - 1 if position == 1 else max(rank - 2, 0)
    if node.op == "Gemm":
        return 0 if node.attributes.get("transB", 0) else 1
    return 1 if node.op == "ConvTranspose" else 0


def _kernel_path(graph: FileGraph, kernel: str) -> tuple[FileNode | None, list[FileNode], str]:
    """The first DQ behind a kernel, what stands before it, and where it all starts."""
    dq, between, tensor = None, [], kernel
    while (node := graph.producer(tensor)) is not None:
        if node.op == DEQUANTIZE and dq is None:
            dq = node
        elif dq is None:
            between.append(node)
        moved = [] if node.op in (QUANTIZE, DEQUANTIZE) else [one for one in node.inputs if not graph.is_constant(one)]
        tensor = moved[0] if moved else node.input(0)
    return dq, (between if dq else []), tensor


def is_int8(graph: FileGraph, layer: WeightedLayer) -> bool:
    """Whether TensorRT can run the layer in int8: input and kernel both come out of a DequantizeLinear."""
    return layer.kernel_dq is not None and not layer.between and dequantized(graph, layer.data) is not None


def dequantized(graph: FileGraph, tensor: str) -> FileNode | None:
    """The DequantizeLinear a tensor comes from, directly or through what commutes with it; ``None`` in float."""
    while (node := graph.producer(tensor)) is not None:
        if node.op == DEQUANTIZE:
            return node
        if not _commutes(graph, node):
            return None
        tensor = node.input(0)
    return None


def _commutes(graph: FileGraph, node: FileNode) -> bool:
    if node.op in MOVING:
        return True
    if node.op == "Pad":  # zeros stay zeros: zero points are 0
        value = graph.value(node.input(2)) if node.input(2) else np.zeros(1)
        return node.attributes.get("mode", b"constant") == b"constant" and value is not None and not np.any(value)
    return node.op == "Resize" and node.attributes.get("mode", b"nearest") == b"nearest"


def quantized_next(graph: FileGraph, tensor: str) -> list[FileNode]:
    """The QuantizeLinears a tensor ends in, behind activations and what commutes; ``[]`` where one way has none."""
    found: list[FileNode] = []
    pending, seen = [tensor], set()
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        readers = graph.consumers(one)
        if one in graph.outputs or not readers:
            return []
        for node in readers:
            if node.op == QUANTIZE:
                found.append(node)
            elif node.op in ACTIVATIONS or _commutes(graph, node) or node.op == "Mul":  # a SiLU ends in Mul
                pending += node.outputs
            else:
                return []
    return found


def without_pairs(graph: FileGraph, tensor: str) -> str:
    """The tensor that a QuantizeLinear and DequantizeLinear were put on, if any."""
    while (dq := graph.made_by(tensor, DEQUANTIZE)) and (q := graph.made_by(dq.input(0), QUANTIZE)):
        tensor = q.input(0)
    return tensor


def readers_behind_pairs(graph: FileGraph, tensor: str) -> list[FileNode]:
    """The nodes that read a tensor, quantized or not."""
    found: list[FileNode] = []
    for node in graph.consumers(tensor):
        found += readers_behind_pairs(graph, node.output) if node.op in (QUANTIZE, DEQUANTIZE) else [node]
    return found


def scale_of(graph: FileGraph, node: FileNode) -> np.ndarray | None:
    """The scale of a QuantizeLinear or DequantizeLinear."""
    return graph.value(node.input(1))


def same_scale(graph: FileGraph, first: FileNode, second: FileNode) -> bool:
    """Whether two quantizers have one scale; what cannot be read counts as equal, other rules name it."""
    one, other = scale_of(graph, first), scale_of(graph, second)
    if one is None or other is None:
        return True
    return one.size == other.size and bool(np.array_equal(one.reshape(-1), other.reshape(-1)))
