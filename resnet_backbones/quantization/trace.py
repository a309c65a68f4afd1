"""How tensors flow between the layers of a built model: functional, nested or subclassed.

The model is traced once into a TensorFlow graph, with every *leaf* layer (one that holds no other layer) recording
the tensors it was given and returned. Operations outside of any leaf, such as a bare ``a + b`` in a ``call``, are seen
too: they cannot be given a quantizer, but the layers that read their results can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from resnet_backbones.keras_api import input_signature, keras
from resnet_backbones.quantization import context
from resnet_backbones.quantization.operations import is_operation, operations_of
from resnet_backbones.quantization.quantizers import ActivationQuantizer, BatchNormFreeze
from resnet_backbones.quantization.rules import rule_of
from resnet_backbones.quantization.schedule_state import ScheduleState

_ALIASES = frozenset({"Identity", "Cast", "StopGradient"})  # the same tensor under another name or precision
# Bare operations that move values without changing them: their results share the range of what they read.
_MOVES = frozenset(
    {"Reshape", "Transpose", "StridedSlice", "Split", "SplitV", "Squeeze", "ExpandDims", "MaxPool", "Pad", "Tile",
     "ResizeNearestNeighbor", "ResizeBilinear"}
)  # fmt: skip
_HELPERS = (ActivationQuantizer, BatchNormFreeze, ScheduleState)
_METADATA = frozenset({"Shape"})  # reads a shape, not values


@dataclass(eq=False)
class LeafCall:
    """One call of one leaf layer.

    Attributes:
        layer: the layer, or a bare operation of a functional model.
        host: the layer that holds what belongs to it: itself, or for a bare operation of Keras 3 its model.
        index: which call of this layer it is, 0 for the first.
        inputs, outputs: the graph tensors it was given and returned, nests flattened.
        order: position among all leaf calls.
    """

    layer: Any
    index: int
    inputs: list[tf.Tensor]
    order: int
    host: Any
    outputs: list[tf.Tensor] = field(default_factory=list)


def is_leaf(layer: Any) -> bool:
    """Whether a layer is quantized as a whole: it has a rule, or holds no other layer (this library's helpers aside).

    A ``Lambda`` is none: what it does is bare operations, whose results are quantized where layers read them.
    """
    if isinstance(layer, (keras.layers.InputLayer, keras.layers.Lambda, *_HELPERS)) or is_operation(layer):
        return False
    return _children(layer) == [] or rule_of(layer) is not None


def _children(layer: Any) -> list[Any]:
    children = layer._flatten_layers(recursive=False, include_self=False)
    return [child for child in children if child is not layer and not isinstance(child, _HELPERS)]


def leaves_of(model: Any) -> dict[Any, Any]:
    """Every leaf layer below a model, and every bare operation that has a rule.

    Args:
        model: a built model.

    Returns:
        Layer or operation -> the layer that holds what belongs to it.
    """
    leaves: dict[Any, Any] = {}
    seen: set[int] = set()

    def visit(layer: Any) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        if layer is not model and is_leaf(layer):
            leaves[layer] = layer
            return
        for child in _children(layer):
            visit(child)

    visit(model)
    leaves.update((operation, host) for operation, host in operations_of(model) if rule_of(operation) is not None)
    return leaves


class Trace:
    """The leaf calls of one forward pass, in order, and how tensors connect them.

    Args:
        model: a built model.
        signature: nest of ``tf.TensorSpec``; default: the model's own inputs.

    Raises:
        ValueError: the model is not built, or its inputs cannot be told.
    """

    def __init__(self, model: Any, signature: Any = None) -> None:
        signature = input_signature(model) if signature is None else signature
        if not model.built or signature is None:
            raise ValueError(
                f"{type(model).__name__} {model.name!r} is not built, so its layers and their order are unknown. "
                "Call it once on a batch (or build it with an input shape) before quantizing it."
            )
        self.signature = signature
        self.calls: list[LeafCall] = []
        self._call_of_operation: dict[str, LeafCall] = {}
        counts: dict[int, int] = {}

        def recorder(layer, call):
            def recorded(*args, **kwargs):
                tensors = [t for t in tf.nest.flatten((args, kwargs)) if tf.is_tensor(t)]
                entry = LeafCall(layer, counts.get(id(layer), 0), tensors, len(self.calls), leaves[layer])
                counts[id(layer)] = entry.index + 1
                self.calls.append(entry)
                graph = tf.compat.v1.get_default_graph()
                before = len(graph.get_operations())
                outputs = call(*args, **kwargs)
                for operation in graph.get_operations()[before:]:
                    self._call_of_operation[operation.name] = entry
                entry.outputs = [t for t in tf.nest.flatten(outputs) if tf.is_tensor(t)]
                return outputs

            return recorded

        def forward(inputs):
            self.inputs = [self.canonical(t) for t in tf.nest.flatten(inputs)]
            outputs = model(inputs, training=False)
            self.outputs = [self.canonical(t) for t in tf.nest.flatten(outputs)]
            self._keep = outputs
            return outputs

        leaves = leaves_of(model)
        with context.use_mode(context.FLOAT), replaced_calls(list(leaves), recorder):
            self._function = tf.function(forward, autograph=False).get_concrete_function(signature)
        for call in self.calls:
            call.inputs = [self.canonical(t) for t in call.inputs]
            call.outputs = [self.canonical(t) for t in call.outputs]
        self._producers = {id(t): call for call in reversed(self.calls) for t in call.outputs if self._made_by(t, call)}

    def _made_by(self, tensor: tf.Tensor, call: LeafCall) -> bool:
        return self._call_of_operation.get(tensor.op.name) is call

    def canonical(self, tensor: tf.Tensor) -> tf.Tensor:
        """The tensor itself, looked up through identities and casts."""
        while tensor.op.type in _ALIASES:
            tensor = tensor.op.inputs[0]
        return _interned(tensor)

    def producer(self, tensor: tf.Tensor) -> LeafCall | None:
        """The leaf call that made the tensor; ``None`` for inputs and results of bare operations."""
        return self._producers.get(id(tensor))

    def moved_from(self, tensor: tf.Tensor) -> tf.Tensor | None:
        """For the result of a bare operation that only moves values: the tensor it moved; else ``None``."""
        operation = tensor.op
        if operation.name in self._call_of_operation or operation.type not in _MOVES:
            return None
        source = operation.inputs[1] if operation.type == "Split" else operation.inputs[0]
        return self.canonical(source)

    def consumers(self, tensor: tf.Tensor) -> list[LeafCall | tf.Operation]:
        """Leaf calls and bare operations that read the tensor; reading only its shape does not count."""
        return list(dict.fromkeys(self._consumers(tensor)))

    def _consumers(self, tensor: tf.Tensor) -> Iterator[LeafCall | tf.Operation]:
        for operation in tensor.consumers():
            call = self._call_of_operation.get(operation.name)
            if operation.type in _ALIASES and (call is None or self._returns(call, tensor)):
                yield from self._consumers(operation.outputs[0])
            elif operation.type in _METADATA:
                continue
            else:
                yield call if call is not None else operation

    def _returns(self, call: LeafCall, tensor: tf.Tensor) -> bool:
        """Whether the call hands the tensor on unchanged, as dropout does in inference."""
        return any(output is self.canonical(tensor) for output in call.outputs)

    def only_consumer(self, tensor: tf.Tensor) -> LeafCall | None:
        """The one leaf call that reads the tensor; ``None`` if others do too, or it is an output of the model."""
        if any(tensor is output for output in self.outputs):
            return None
        consumers = self.consumers(tensor)
        return consumers[0] if len(consumers) == 1 and isinstance(consumers[0], LeafCall) else None


def _interned(tensor: tf.Tensor) -> tf.Tensor:
    """One Python object per graph tensor: TensorFlow keeps them in ``op.outputs``."""
    return tensor.op.outputs[tensor.value_index]


class replaced_calls:
    """Within it, each layer's ``call`` is ``make(layer, its call)``."""

    def __init__(self, layers: list[Any], make: Any) -> None:
        self._layers, self._make = layers, make

    def __enter__(self) -> None:
        self._before = [layer.__dict__.get("call") for layer in self._layers]
        for layer in self._layers:
            layer.__dict__["call"] = self._make(layer, layer.call)

    def __exit__(self, *exception: object) -> None:
        for layer, call in zip(self._layers, self._before, strict=True):
            if call is None:
                del layer.__dict__["call"]
            else:
                layer.__dict__["call"] = call
