"""An ONNX graph as the rules look at it: who makes and who reads each tensor, and what is constant."""

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
class Node:
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


class Graph:
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
        self.nodes: list[Node] = []
        for proto in model.graph.node:
            if proto.op_type == "Constant" and any(one.name == "value" for one in proto.attribute):
                value = next(one.t for one in proto.attribute if one.name == "value")
                self.initializers[proto.output[0]] = value
            else:
                self.nodes.append(_node(proto))
        self.inputs = [one.name for one in model.graph.input if one.name not in self.initializers]
        self.outputs = [one.name for one in model.graph.output]
        self._producer = {name: node for node in self.nodes for name in node.outputs if name}
        self._consumers: dict[str, list[Node]] = defaultdict(list)
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

    def of(self, *ops: str) -> Iterator[Node]:
        """The nodes of some operators, in the file's order."""
        return (node for node in self.nodes if node.op in ops)

    def producer(self, tensor: str) -> Node | None:
        """The node a tensor comes from; ``None`` for inputs and constants."""
        return self._producer.get(tensor)

    def made_by(self, tensor: str, *ops: str) -> Node | None:
        """The node a tensor comes from, if it is one of these operators."""
        node = self._producer.get(tensor)
        return node if node is not None and node.op in ops else None

    def consumers(self, tensor: str) -> list[Node]:
        """The nodes that read a tensor, each once."""
        return self._consumers.get(tensor, [])

    def only_read_by(self, tensor: str) -> Node | None:
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

    def upstream(self, tensor: str) -> Iterator[Node]:
        """All nodes a tensor's value comes from."""
        pending, seen = [tensor], set()
        while pending:
            node = self.producer(pending.pop())
            if node is not None and id(node) not in seen:
                seen.add(id(node))
                yield node
                pending += [*node.inputs, *node.captured]

    def downstream(self, tensor: str) -> Iterator[Node]:
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


def read_graph(source: str | os.PathLike[str] | onnx.ModelProto) -> Graph:
    """Reads a file, or takes a model as it is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no whole ONNX file.
    """
    if isinstance(source, onnx.ModelProto):
        return Graph(source)
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
    return Graph(model, external, missing)


def _external(model: onnx.ModelProto) -> list[str]:
    return [tensor.name for tensor in model.graph.initializer if uses_external_data(tensor)]


def _node(proto: onnx.NodeProto) -> Node:
    outputs = list(proto.output)
    name = proto.name or f"{proto.op_type} of {outputs[0] if outputs else '?'}"
    attributes, captured = {}, []
    for attribute in proto.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            captured += _captured(attribute.g)
        elif attribute.type != onnx.AttributeProto.GRAPHS:
            attributes[attribute.name] = onnx.helper.get_attribute_value(attribute)
    return Node(name, proto.op_type, proto.domain, list(proto.input), outputs, attributes, captured)


def _captured(graph: onnx.GraphProto) -> list[str]:
    own = {one.name for one in [*graph.input, *graph.initializer]} | {name for n in graph.node for name in n.output}
    read = [name for node in graph.node for name in _node(node).inputs + _node(node).captured]
    return [name for name in [*read, *(one.name for one in graph.output)] if name and name not in own]
