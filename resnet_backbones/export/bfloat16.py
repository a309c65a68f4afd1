"""A frozen TensorFlow function with weights and arithmetic in bfloat16, its ends left in float32."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

_FLOAT, _BFLOAT = tf.float32.as_datatype_enum, tf.bfloat16.as_datatype_enum


def in_bfloat16(frozen: Any) -> Any:
    """Rewrites a function.

    Every operation that may compute in bfloat16 does; casts stand where one cannot (resizing gives float32, batch norm
    takes its statistics in float32).

    Args:
        frozen: a concrete function without variables.

    Returns:
        A concrete function of the same inputs, float32, that returns float32.
    """
    graph = _Rewritten(frozen.graph.as_graph_def())
    inputs = [tensor.name for tensor in frozen.inputs]
    outputs = [graph.as_float32(tensor.name) for tensor in frozen.outputs]

    def imported():
        tf.graph_util.import_graph_def(graph.made, name="")

    wrapped = tf.compat.v1.wrap_function(imported, [])
    element = wrapped.graph.as_graph_element
    return wrapped.prune([element(name) for name in inputs], [element(name) for name in outputs])


class _Rewritten:
    """The graph, rewritten node by node in the order of computation.

    Args:
        source: the graph in float32.
    """

    def __init__(self, source: Any) -> None:
        self.made = tf.compat.v1.GraphDef()
        self.made.versions.CopyFrom(source.versions)
        self.made.library.CopyFrom(source.library)
        self._types: dict[str, int] = {}  # "node:output" -> its type now
        self._casts: set[str] = set()
        for node in _in_order(source):
            self._rewrite(node)

    def as_float32(self, name: str) -> str:
        """The tensor of that name, cast if it is bfloat16 now."""
        return self._cast(name, _FLOAT) if self._types.get(name) == _BFLOAT else name

    def _rewrite(self, node: Any) -> None:
        definition = op_def_registry.get(node.op)
        node = _copied(node)
        if node.op == "Const":
            _convert_constant(node)
        elif node.op != "Placeholder":
            _convert_types(node, definition)
        wanted = _types_of(definition.input_arg, node)
        for place, name in enumerate(node.input):
            if name.startswith("^") or place >= len(wanted):
                continue
            tensor = name if ":" in name else f"{name}:0"
            if {self._types.get(tensor), wanted[place]} == {_FLOAT, _BFLOAT}:
                node.input[place] = self._cast(tensor, wanted[place])
        self.made.node.append(node)
        for place, kind in enumerate(_types_of(definition.output_arg, node)):
            self._types[f"{node.name}:{place}"] = kind

    def _cast(self, tensor: str, kind: int) -> str:
        name = f"{tensor.replace(':', '_')}_as_{tf.as_dtype(kind).name}"
        if name not in self._casts:
            self._casts.add(name)
            node = self.made.node.add(name=name, op="Cast", input=[tensor])
            node.attr["SrcT"].type, node.attr["DstT"].type = self._types[tensor], kind
            self._types[f"{name}:0"] = kind
        return f"{name}:0"


def _in_order(source: Any) -> list[Any]:
    """Nodes, each behind those it reads: the order within a file is any."""
    by_name = {node.name: node for node in source.node}
    done: dict[str, Any] = {}
    for start in by_name:
        stack = [start]
        while stack:
            node = by_name[stack[-1]]
            open_ = [n for n in (i.lstrip("^").split(":")[0] for i in node.input) if n not in done]
            if open_:
                stack.extend(open_)
            else:
                done[stack.pop()] = node
    return list(done.values())


def _copied(node: Any) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy


def _convert_constant(node: Any) -> None:
    if node.attr["dtype"].type == _FLOAT:
        values = tf.make_ndarray(node.attr["value"].tensor).astype(tf.bfloat16.as_numpy_dtype)
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values, tf.bfloat16))
        node.attr["dtype"].type = _BFLOAT


def _convert_types(node: Any, definition: Any) -> None:
    """Turns the types an operation computes in, where it may."""
    for attribute in definition.attr:
        value = node.attr[attribute.name]
        if attribute.type == "type" and value.type == _FLOAT and _allowed(attribute, _BFLOAT):
            value.type = _BFLOAT
        elif attribute.type == "list(type)" and _FLOAT in value.list.type and _allowed(attribute, _BFLOAT):
            value.list.type[:] = [_BFLOAT if kind == _FLOAT else kind for kind in value.list.type]


def _allowed(attribute: Any, kind: int) -> bool:
    allowed = attribute.allowed_values.list.type
    # Of batch norm's statistics, "U", there are kernels in float32 only, though its definition allows more.
    return attribute.name != "U" and (not allowed or kind in allowed)


def _types_of(arguments: Any, node: Any) -> list[int]:
    """Types of an operation's inputs or outputs, one each."""
    kinds: list[int] = []
    for argument in arguments:
        if argument.type_list_attr:
            kinds.extend(node.attr[argument.type_list_attr].list.type)
            continue
        kind = argument.type or node.attr[argument.type_attr].type
        kinds.extend([kind] * (node.attr[argument.number_attr].i if argument.number_attr else 1))
    return kinds
