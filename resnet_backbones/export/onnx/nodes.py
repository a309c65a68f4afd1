"""An ONNX graph that is easy to change: nodes are objects, constants are arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


@dataclass(eq=False)
class Node:
    """One operator; compared by identity."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""

    @property
    def output(self) -> str:
        """Name of its first output."""
        return self.outputs[0]

    @property
    def read(self) -> list[str]:
        """Names of all tensors it reads: its inputs, and what the graphs it runs take from outside of them."""
        graphs = [value for value in self.attributes.values() if isinstance(value, onnx.GraphProto)]
        return [*self.inputs, *(name for graph in graphs for name in _taken_from_outside(graph))]

    def read_instead(self, old: str, new: str) -> None:
        """Makes it read another tensor."""
        self.inputs = [new if name == old else name for name in self.inputs]
        for value in self.attributes.values():
            if isinstance(value, onnx.GraphProto) and old in _taken_from_outside(value):
                _take_instead(value, old, new)


class Graph:
    """The graph of a model.

    Args:
        model: as tf2onnx makes it.

    Attributes:
        nodes: operators, in any order; :meth:`to_model` sorts them.
        constants: name -> array.
        inputs, outputs: descriptions of the graph's ends.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.opset = next(entry.version for entry in model.opset_import if not entry.domain)
        self.domains = [entry for entry in model.opset_import if entry.domain]
        self.inputs, self.outputs = list(graph.input), list(graph.output)
        self.constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
        self.nodes = [_node(entry) for entry in graph.node]
        self._numbers: dict[str, int] = {}

    # --- looking -----------------------------------------------------------------------------------------------

    @property
    def output_names(self) -> list[str]:
        """Names of what the graph returns."""
        return [output.name for output in self.outputs]

    def producer(self, name: str) -> Node | None:
        """The node that makes a tensor; ``None`` for inputs and constants."""
        return next((node for node in self.nodes if name in node.outputs), None)

    def maker(self, name: str) -> Node:
        """The node that makes a tensor, which is neither an input nor a constant.

        Raises:
            KeyError: no node makes it.
        """
        node = self.producer(name)
        if node is None:
            raise KeyError(name)
        return node

    def consumers(self, name: str) -> list[Node]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if name in node.read]

    def only_consumer(self, name: str) -> Node | None:
        """The node that alone reads a tensor; ``None`` if there are others or the graph returns it."""
        found = self.consumers(name)
        return found[0] if len(found) == 1 and name not in self.output_names else None

    def of_kind(self, *kinds: str) -> list[Node]:
        """The nodes of these kinds."""
        return [node for node in self.nodes if node.kind in kinds]

    def shapes(
        self, others: Mapping[str, Sequence[int]] | None = None, images: int | None = None
    ) -> dict[str, list[int | None]]:
        """Shapes of all tensors as far as they can be inferred.

        Args:
            others: shapes of tensors that nodes read but the graph does not hold.
            images: how many to assume; ``None`` for as many as the graph says.

        Returns:
            Name -> shape, ``None`` for a size that is not fixed; tensors of unknown rank are left out.
        """
        model = self.to_model()
        if images is not None:
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = images
        for name, shape in (others or {}).items():
            model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        found: dict[str, list[int | None]] = {name: list(array.shape) for name, array in self.constants.items()}
        for value in [*inferred.input, *inferred.value_info, *inferred.output]:
            if value.type.tensor_type.HasField("shape"):
                sizes = value.type.tensor_type.shape.dim
                found[value.name] = [size.dim_value if size.HasField("dim_value") else None for size in sizes]
        return found

    # --- changing ----------------------------------------------------------------------------------------------

    def new_name(self, hint: str) -> str:
        """A tensor name that starts with ``hint`` and is not taken."""
        taken = {name for node in self.nodes for name in node.outputs} | set(self.constants)
        name = hint
        while name in taken:
            self._numbers[hint] = self._numbers.get(hint, 0) + 1
            name = f"{hint}_{self._numbers[hint]}"
        return name

    def constant(self, value: Any, hint: str) -> str:
        """Adds a constant; returns its name."""
        name = self.new_name(hint)
        self.constants[name] = np.asarray(value)
        return name

    def add(self, kind: str, inputs: Sequence[str], hint: str, **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name."""
        name = self.new_name(hint)
        self.nodes.append(Node(kind, list(inputs), [name], attributes, name))
        return name

    def redirect(self, old: str, new: str, where: Callable[[Node], bool] | None = None) -> None:
        """Makes the readers of one tensor read another.

        Args:
            old: the tensor read so far.
            new: the tensor to read.
            where: which readers; all, and the graph's outputs, when left out.
        """
        for node in self.consumers(old):
            if where is None or where(node):
                node.read_instead(old, new)
        if where is None and old in self.output_names:
            self.return_instead(old, new)

    def return_instead(self, old: str, new: str) -> None:
        """Makes the graph return another tensor under the same name.

        Args:
            old: an output of the graph.
            new: the tensor to return; it, or a copy of it, takes the name ``old``.
        """
        if self.producer(old) is not None:
            self.rename(old, self.new_name(f"{old}_before"))
        if self.producer(new) is None or new in self.output_names:
            self.nodes.append(Node("Identity", [new], [old], name=old))
        else:
            self.rename(new, old)

    def rename(self, old: str, new: str) -> None:
        """Calls a tensor that a node makes by another name, which must not be taken; outputs keep theirs."""
        for node in self.nodes:
            node.read_instead(old, new)
            node.outputs = [new if name == old else name for name in node.outputs]

    def remove(self, node: Node) -> None:
        """Takes a node out; nothing may read it any more."""
        self.nodes = [other for other in self.nodes if other is not node]

    def remove_unused(self) -> None:
        """Drops nodes, constants and inputs (but the first) that the outputs do not need."""
        needed = set(self.output_names)
        kept = []
        for node in reversed(self.in_order()):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(node.read)
        self.nodes = kept[::-1]
        self.constants = {name: value for name, value in self.constants.items() if name in needed}
        self.inputs = [entry for number, entry in enumerate(self.inputs) if number == 0 or entry.name in needed]

    def merge_equal_constants(self) -> None:
        """Stores equal constants once, as the kernel of a head that several levels share."""
        first: dict[tuple, str] = {}
        for name, value in list(self.constants.items()):
            twin = first.setdefault((value.dtype.str, value.shape, value.tobytes()), name)
            if twin != name:
                self.redirect(name, twin)
                del self.constants[name]

    def in_order(self) -> list[Node]:
        """The nodes, each behind those it reads from."""
        made_by = {name: node for node in self.nodes for name in node.outputs}
        order: list[Node] = []
        done: set[int] = set()
        stack = [(node, False) for node in reversed(self.nodes)]
        while stack:
            node, ready = stack.pop()
            if id(node) in done:
                continue
            if ready:
                done.add(id(node))
                order.append(node)
                continue
            stack.append((node, True))
            stack.extend((made_by[name], False) for name in node.read if name in made_by)
        return order

    # --- out ---------------------------------------------------------------------------------------------------

    def to_model(self) -> onnx.ModelProto:
        """The graph as ONNX."""
        graph = helper.make_graph(
            [
                helper.make_node(node.kind, node.inputs, node.outputs, node.name, domain=node.domain, **node.attributes)
                for node in self.in_order()
            ],
            "resnet_backbones",
            self.inputs,
            self.outputs,
            [numpy_helper.from_array(np.asarray(v, order="C"), name) for name, v in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), *self.domains]
        model = helper.make_model(graph, producer_name="resnet_backbones", opset_imports=opsets)
        model.ir_version = min(model.ir_version, _IR_VERSION)
        return model


_IR_VERSION = 8  # goes with opset 17; newer ones are refused by runtimes of that time


def _taken_from_outside(graph: onnx.GraphProto) -> set[str]:
    """Names of the tensors that a loop's or a branch's graph reads without making them."""
    made = {entry.name for entry in [*graph.input, *graph.initializer]}
    made |= {name for node in graph.node for name in node.output}
    read = {name for node in graph.node for name in _node(node).read} | {entry.name for entry in graph.output}
    return read - made - {""}


def _take_instead(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g") and old in _taken_from_outside(attribute.g):
                _take_instead(attribute.g, old, new)


def _node(entry: onnx.NodeProto) -> Node:
    attributes = {a.name: helper.get_attribute_value(a) for a in entry.attribute}
    # An empty list has no type to write it back with, and says no more than leaving it out.
    kept = {name: value for name, value in attributes.items() if not (isinstance(value, list) and not value)}
    return Node(entry.op_type, list(entry.input), list(entry.output), kept, entry.name, entry.domain)
