"""How tensors flow between the layers of a built model: functional, nested or subclassed.

The model is traced once into a TensorFlow graph, with every *leaf* layer (one that holds no other layer) recording
the tensors it was given and returned. Operations outside of any leaf, such as a bare ``a + b`` in a ``call``, are seen
too: they cannot be given a quantizer, but the layers that read their results can, and so can a layer of layers, such as
a residual block, that returns one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from resnet_backbones.errors import raised_here
from resnet_backbones.keras_compat import input_signature
from resnet_backbones.quantization import context
from resnet_backbones.quantization.interception import intercepted
from resnet_backbones.quantization.leaves import leaves_of

_ALIASES = frozenset({"Identity", "Cast", "StopGradient"})  # the same tensor under another name or precision
# Bare operations that move values without changing them: their results share the range of what they read.
_MOVES = frozenset(
    {"Reshape", "Transpose", "StridedSlice", "Split", "SplitV", "Squeeze", "ExpandDims", "MaxPool", "Pad", "Tile",
     "ResizeNearestNeighbor", "ResizeBilinear"}
)  # fmt: skip
_METADATA = frozenset({"Shape"})  # reads a shape, not values


@dataclass(eq=False)
class LeafCall:
    """One call of one leaf layer, or of a layer of layers.

    Attributes:
        layer: the layer, or a bare operation of a functional model.
        host: the layer that holds what belongs to it: itself, or for a bare operation of Keras 3 its model.
        index: which call of this layer it is, 0 for the first.
        inputs, outputs: the graph tensors it was given and returned, nests flattened.
        order: position in :attr:`Trace.points`.
        operations: of a layer of layers, names of all graph operations within.
    """

    layer: Any
    index: int
    inputs: list[tf.Tensor]
    order: int
    host: Any
    outputs: list[tf.Tensor] = field(default_factory=list)
    operations: frozenset[str] = frozenset()


class Trace:
    """The leaf calls of one forward pass, in order, and how tensors connect them.

    Attributes:
        model: what was traced.
        signature: of its inputs.
        calls: the leaf calls, in order.
        composites: the calls of layers of layers, in the order they ended.

    Args:
        model: a built model.
        signature: nest of ``tf.TensorSpec``; default: the model's own inputs.
        quantization: of :func:`leaves_of`.

    Raises:
        ValueError: the model is not built, or its inputs cannot be told.
    """

    def __init__(self, model: Any, signature: Any = None, quantization: dict[str, Any] | None = None) -> None:
        signature = input_signature(model) if signature is None else signature
        if not model.built or signature is None:
            raise ValueError(
                f"{type(model).__name__} {model.name!r} is not built, so its layers and their order are unknown. "
                "Call it once on a batch (or build it with an input shape) before quantizing it."
            )
        self.model, self.signature = model, signature
        self.calls: list[LeafCall] = []
        self.composites: list[LeafCall] = []
        self._call_of_operation: dict[str, LeafCall] = {}
        counts: dict[int, int] = {}
        running = [model]  # the layers whose calls are not done, the innermost last

        def entered(layer, args, kwargs):
            index = counts.get(id(layer), 0)
            counts[id(layer)] = index + 1
            return LeafCall(layer, index, _tensors((args, kwargs)), len(self.calls), leaves.get(layer, layer))

        def within(layer, call, args, kwargs):
            graph = tf.compat.v1.get_default_graph()
            before = len(graph.get_operations())
            running.append(layer)
            outputs = call(*args, **kwargs)
            running.pop()
            return outputs, [operation.name for operation in graph.get_operations()[before:]]

        def recorder(layer, call):
            def leaf(*args, **kwargs):
                entry = entered(layer, args, kwargs)
                self.calls.append(entry)
                outputs, made = within(layer, call, args, kwargs)
                self._call_of_operation.update((name, entry) for name in made)
                entry.outputs = _tensors(outputs)
                return outputs

            def composite(*args, **kwargs):
                entry = entered(layer, args, kwargs)
                outputs, made = within(layer, call, args, kwargs)
                entry.outputs, entry.operations = _tensors(outputs), frozenset(made)
                self.composites.append(entry)
                return outputs

            return leaf if layer in leaves else composite

        def forward(inputs):
            for noted in (self.calls, self.composites, self._call_of_operation, counts):
                noted.clear()  # a call that creates variables, as of a PReLU given as an activation, is traced twice
            self.inputs = [self.canonical(t) for t in tf.nest.flatten(inputs)]
            outputs = model(inputs, training=False)
            self.outputs = [self.canonical(t) for t in tf.nest.flatten(outputs)]
            self._keep = outputs
            return outputs

        leaves, composites = leaves_of(model, quantization)
        with context.use_mode(context.FLOAT), intercepted([*leaves, *composites], recorder):
            try:
                self._function = tf.function(forward, autograph=False).get_concrete_function(signature)
            except Exception as error:
                if raised_here(error):
                    raise
                raise ValueError(self._why_untraced(running[-1], error)) from error
        for number, call in enumerate(self.composites, start=len(self.calls)):
            call.order = number
        for call in self.points:
            call.inputs = [self.canonical(t) for t in call.inputs]
            call.outputs = [self.canonical(t) for t in call.outputs]
        self._producers = {id(t): call for call in reversed(self.calls) for t in call.outputs if self._made_by(t, call)}

    def _why_untraced(self, layer: Any, error: Exception) -> str:
        """A Keras layer that does not run in a graph, in words."""
        lines = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()
        told = [line.strip() for line in lines if line.strip() and "encountered when calling" not in line]
        sizes = [size for spec in tf.nest.flatten(self.signature) for size in spec.shape[1:]]
        remedy = "build the model with inputs of a fixed size, or " if None in sizes else ""
        return (
            f"{type(layer).__name__} {layer.name!r} of {self.model.name!r} does not run in a TensorFlow graph"
            f"{' at an open size' if remedy else ''}: {type(error).__name__}: {(told or ['it gives no reason'])[0]} "
            f"To quantize or export it, {remedy}replace the layer."
        )

    @property
    def points(self) -> list[LeafCall]:
        """All calls, as sites number them: leaf calls, then those of layers of layers."""
        return [*self.calls, *self.composites]

    def _made_by(self, tensor: tf.Tensor, call: LeafCall) -> bool:
        return self._call_of_operation.get(tensor.op.name) is call

    def canonical(self, tensor: tf.Tensor) -> tf.Tensor:
        """The tensor itself, looked up through identities and casts."""
        while tensor.op.type in _ALIASES and not _makes_floats(tensor.op):
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

    def feeds_bare_operation(self, tensor: tf.Tensor) -> bool:
        """Whether a bare operation that computes something, such as ``a + b``, reads the tensor."""
        readers = self.consumers(tensor)
        return any(isinstance(reader, tf.Operation) and reader.type not in _MOVES for reader in readers)

    def read_once(self, tensor: tf.Tensor) -> bool:
        """Whether one leaf call or bare operation reads the tensor, and the model does not return it."""
        return len(self.consumers(tensor)) == 1 and not any(tensor is output for output in self.outputs)

    def operations(self, *kinds: str) -> list[tuple[tf.Operation, Any]]:
        """The operations of some types, each with the leaf layer that holds it; ``None`` for bare ones."""
        found = [one for one in self._function.graph.get_operations() if one.type in kinds]
        calls = [self._call_of_operation.get(operation.name) for operation in found]
        return [(one, None if call is None else call.layer) for one, call in zip(found, calls, strict=True)]

    def needed(self) -> set[str]:
        """Names of the operations that the model's outputs are computed from."""
        found: set[str] = set()
        left = [tensor.op for tensor in self.outputs]
        while left:
            operation = left.pop()
            if operation.name not in found:
                found.add(operation.name)
                left += [tensor.op for tensor in operation.inputs]
        return found

    def computed(self) -> set[str]:
        """Names of the operations that are computed from the model's inputs, and of these."""
        found = {tensor.op.name for tensor in self.inputs}
        for operation in self._function.graph.get_operations():  # each after what it reads
            if any(tensor.op.name in found for tensor in operation.inputs):
                found.add(operation.name)
        return found

    def bare_operations(self, *kinds: str) -> list[tf.Operation]:
        """The operations of some types that no leaf layer holds."""
        return [operation for operation, layer in self.operations(*kinds) if layer is None]

    def bare_additions(self) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """What each bare ``a + b`` of two different images adds."""
        bare = self.bare_operations("Add", "AddV2")
        added = [[self.canonical(tensor) for tensor in operation.inputs] for operation in bare]
        images = [pair for pair in added if all(one.dtype.is_floating and one.shape.rank == 4 for one in pair)]
        return [(first, second) for first, second in images if first is not second]

    def bare_relu_behind(self, tensor: tf.Tensor) -> tf.Tensor | None:
        """What a bare ReLU makes of the tensor, if nothing else reads it; else ``None``."""
        readers = self.consumers(tensor)
        if len(readers) != 1 or isinstance(readers[0], LeafCall) or readers[0].type not in ("Relu", "Relu6"):
            return None
        returned = any(tensor is output for output in self.outputs)
        return None if returned else _interned(readers[0].outputs[0])

    def only_consumer(self, tensor: tf.Tensor) -> LeafCall | None:
        """The one leaf call that reads the tensor; ``None`` if others do too, or it is an output of the model."""
        if any(tensor is output for output in self.outputs):
            return None
        consumers = self.consumers(tensor)
        return consumers[0] if len(consumers) == 1 and isinstance(consumers[0], LeafCall) else None


def _tensors(nest: Any) -> list[tf.Tensor]:
    """The tensors of a nest; one that was computed before the model was traced becomes a constant of the graph."""
    found = [tensor for tensor in tf.nest.flatten(nest) if tf.is_tensor(tensor)]
    return [tensor if tf.is_symbolic_tensor(tensor) else tf.constant(tensor.numpy()) for tensor in found]


def _makes_floats(operation: tf.Operation) -> bool:
    """Whether it makes floats of integers that the model computed; those of its input only have another type."""
    source = operation.inputs[0]
    return operation.outputs[0].dtype.is_floating and not source.dtype.is_floating and source.op.type != "Placeholder"


def _interned(tensor: tf.Tensor) -> tf.Tensor:
    """One Python object per graph tensor: TensorFlow keeps them in ``op.outputs``."""
    return tensor.op.outputs[tensor.value_index]
