"""Which layer each operation of an exported function comes from, so that a file's tensors find their layers again.

Converters name a file's tensors after the operations of the function, several joined where they were fused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import keras
from resnet_backbones.keras_compat.operations import operation_name
from resnet_backbones.quantization import context
from resnet_backbones.quantization.export_forms import scale_and_offset
from resnet_backbones.quantization.hooks import hook_of
from resnet_backbones.quantization.placement.selection import layer_labels
from resnet_backbones.quantization.rules import FUSED, activation_name, role_of
from resnet_backbones.quantization.trace import LeafCall, Trace

# A converter takes a ReLU past these to the operator before them.
_PASSED = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute)


class Sources:
    """Records, while a function is traced, which layer call makes which operation.

    Args:
        model: the model.
        trace: its layer calls, and how they follow each other.
    """

    def __init__(self, model: Any, trace: Trace) -> None:
        self._trace = trace
        self._calls = {(id(call.layer), call.index): call for call in trace.calls}
        self._labels = layer_labels(model)
        self._counts: dict[int, int] = {}
        self._of_operation: dict[str, LeafCall] = {}
        self._shapes: dict[int, tuple[int | None, ...]] = {}
        self._last: dict[int, str] = {}  # order of a call -> the operation that ends it
        self._returned: dict[int, str] = {}  # the same, its range included
        self._renamed: dict[str, str] = {}
        self._ranged: set[int] = set()  # orders of calls whose result has a range
        self._convolved: set[int] = set()  # orders of calls that a depthwise convolution stands for

    @property
    def layers(self) -> list[Any]:
        """The layers, and bare operations with a rule, that are recorded."""
        return list({id(call.layer): call.layer for call in self._trace.calls}.values())

    def recorder(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call in place of the layer's own that records what it makes (for ``interception.intercepted``)."""

        @tf.autograph.experimental.do_not_convert
        def recorded(*args, **kwargs):
            if tf.executing_eagerly():  # a constant that the function needs, computed beside it
                return call(*args, **kwargs)
            index = self._counts[id(layer)] = self._counts.get(id(layer), -1) + 1
            graph = tf.compat.v1.get_default_graph()
            before = len(graph.get_operations())
            outputs = call(*args, **kwargs)
            entry = self._calls.get((id(layer), index))
            if entry is not None:
                made = graph.get_operations()[before:]
                self._of_operation.update((operation.name, entry) for operation in made)
                if any(operation.type == "DepthwiseConv2dNative" for operation in made):
                    self._convolved.add(entry.order)
                flat = [value for value in tf.nest.flatten(outputs) if tf.is_tensor(value)]
                if len(flat) == 1:
                    self._shapes[entry.order] = tuple(flat[0].shape)
                    last = self._trace.canonical(flat[0])
                    self._returned[entry.order] = self._with_gradient_of_its_own(last).op.name
                    if last.op.type.startswith("FakeQuant"):
                        self._ranged.add(entry.order)
                        last = self._trace.canonical(last.op.inputs[0])
                    self._last[entry.order] = last.op.name
            return outputs

        return recorded

    def _with_gradient_of_its_own(self, tensor: Any) -> Any:
        """What TensorFlow hands on with another gradient, as it does the result of SiLU; else the tensor itself."""
        while tensor.op.type == "IdentityN":
            tensor = self._trace.canonical(tensor.op.inputs[tensor.value_index])
        return tensor

    def rename(self, names: Mapping[str, str]) -> None:
        """Tells of tensors that a file calls otherwise than the operation whose result they hold.

        Args:
            names: the file's name -> the operation's.
        """
        self._renamed.update(names)

    def call_of(self, name: str) -> LeafCall | None:
        """The layer call that an operation belongs to; a number that a converter put behind its name is overlooked."""
        return self._of_operation.get(self._known(name))

    def _known(self, name: str) -> str:
        """The name of a recorded operation, without what a converter put behind it."""
        name = self._renamed.get(name, name)
        while name not in self._of_operation and name[-1:].isdigit():
            name = self._renamed.get(name[:-1], name[:-1])
        return name

    def label(self, call: LeafCall) -> str:
        """The call's layer by its path, and which call of it."""
        path = self._labels[id(call.layer)]
        return f"{path}#{call.index}" if call.index else path

    def taps(self, tensors: Iterable[tuple[str, tuple[int | None, ...]]]) -> dict[str, LeafCall]:
        """Which tensors of a file hold what a layer call returns.

        Args:
            tensors: names, operations of the function joined by ``;`` with the last of them first, and shapes of what
                the file's operators compute, in order.

        Returns:
            Name of the tensor -> the call, in the file's order; one tensor a call, the last of its result's shape.
        """
        found: dict[int, tuple[str, LeafCall]] = {}
        for name, shape in tensors:
            first = name.split(";")[0]
            call = self.call_of(first)
            call = None if call is None or self._is_before_activation(first, call) else self._last_fused(call)
            if call is not None and self._shapes.get(call.order, ())[1:] == tuple(shape)[1:]:
                found.pop(call.order, None)
                found[call.order] = name, call
        return dict(found.values())

    def exact_taps(self, tensors: Iterable[tuple[str, tuple[int | None, ...]]]) -> dict[str, LeafCall]:
        """The same for a file in which each tensor has the name of the one operation whose result it holds.

        What a layer rounds is measured rounded only, and what it activates activated.

        Args:
            tensors: names and shapes, in Keras' layout, of what the file's operators compute, in order.

        Returns:
            Name of the tensor -> the call, in the file's order; one tensor a call.
        """
        found: dict[int, tuple[str, LeafCall]] = {}
        returned: set[int] = set()
        for name, shape in tensors:
            call = self.call_of(name)
            if call is None or call.order in returned or self._shapes.get(call.order, ())[1:] != tuple(shape)[1:]:
                continue
            if self._known(name) == self._returned.get(call.order):
                returned.add(call.order)
            elif not self._may_end(name, call):
                continue
            found.pop(call.order, None)
            found[call.order] = name, call
        return dict(found.values())

    def _may_end(self, name: str, call: LeafCall) -> bool:
        """Whether the call returns an operation's result where a file does not hold the operation behind it.

        A converter leaves out what changes nothing, as the sum with a bias of zeros.
        """
        sums_up = role_of(call.layer) in ("weighted", "batch_norm") and activation_name(call.layer) is None
        return sums_up and call.order not in self._ranged and "FakeQuant" not in self._known(name)

    def _is_before_activation(self, name: str, call: LeafCall) -> bool:
        """Whether a tensor is what a weighted layer computes before its own activation, an operator of its own."""
        own = activation_name(call.layer) if hasattr(call.layer, "kernel") else None
        return own is not None and own not in FUSED and not self._ends(name, call)

    def _ends(self, name: str, call: LeafCall) -> bool:
        """Whether an operation's result is what the call returns, its range aside."""
        last = self._last.get(call.order)
        return last is not None and self._known(name) == last

    def _last_fused(self, call: LeafCall) -> LeafCall:
        """The call whose result an operator gives that computes this one: names leave some of what is fused out."""
        while call.order not in self._ranged:
            after = self._consumer(call)
            if after is None or not (self._folds(after) or activation_name(after.layer) in FUSED):
                return call
            call = after
        return call

    def _consumer(self, call: LeafCall) -> LeafCall | None:
        return self._trace.only_consumer(call.outputs[0]) if len(call.outputs) == 1 else None

    def _folds(self, call: LeafCall) -> bool:
        """Whether the call is a batch norm that folds into the convolution before it."""
        hook = hook_of(call.layer)
        return isinstance(call.layer, keras.layers.BatchNormalization) and not (hook and hook.stands_alone)

    def weighted(self, name: str) -> tuple[LeafCall, Any] | None:
        """The layer whose kernel an operator of a file multiplies by.

        Args:
            name: of the tensor the operator computes.

        Returns:
            The call of the layer, quantized or not, and the batch norm folded into its kernel or ``None``; ``None`` if
            it is no layer's kernel.
        """
        calls = [call for call in map(self.call_of, name.split(";")) if call is not None]
        return next(filter(None, map(self._weighted_before, calls)), None)

    def calls_of(self, name: str) -> Iterator[LeafCall]:
        """The layers that an operator of a file may compute: those it is named after, and what is before an activation.

        Args:
            name: of the tensor the operator computes.
        """
        for call in filter(None, map(self.call_of, name.split(";"))):
            yield call
            before = self._trace.producer(call.inputs[0]) if call.inputs else None
            if before is not None and activation_name(call.layer) is not None:
                yield before

    def _weighted_before(self, call: LeafCall | None) -> tuple[LeafCall, Any] | None:
        """The weighted layer that a call is, or which fuses it."""
        while call is not None:
            if role_of(call.layer) == "weighted":
                return self._with_norm(call)
            shifts = _only_shifts(call) and call.order not in self._convolved
            moves = isinstance(call.layer, _PASSED)
            if not self._folds(call) and not shifts and not moves and activation_name(call.layer) is None:
                return None
            before = self._trace.producer(call.inputs[0]) if call.inputs else None
            if before is not None and before.order in self._ranged and self._folds(call):
                return None  # the batch norm is left in float: it folds into nothing rounded
            call = before
        return None

    def called_once(self, layer: Any) -> tuple[LeafCall, Any] | None:
        """The same of a layer that is called once, found by itself.

        TensorFlow moves a number that is added after a sum to the bias before it, under the number's name.
        """
        calls = [call for call in self._trace.calls if call.layer is layer]
        return self._with_norm(calls[0]) if len(calls) == 1 else None

    def scaled_after(self, call: LeafCall) -> np.ndarray:
        """What layers after a weighted one and its batch norm multiply its channels by, if no range is between them.

        Such a product folds into the kernel of a file.

        Args:
            call: of the weighted layer.

        Returns:
            One factor per channel, or one for all.
        """
        factor = np.ones(1)
        while call.order not in self._ranged and activation_name(call.layer) is None:
            after = self._consumer(call)
            if after is None:
                break
            if isinstance(after.layer, (keras.layers.Rescaling, keras.layers.Normalization)):
                factor = factor * (scale_and_offset(after.layer)[0] if role_of(after.layer) else 1.0)
            elif not self._folds(after):
                break
            call = after
        return factor

    def _with_norm(self, call: LeafCall) -> tuple[LeafCall, Any]:
        own, hook = getattr(call.layer, "activation", None), hook_of(call.layer)
        ranged = hook is not None and (call.index, "preactivation") in _used(hook)
        if isinstance(own, keras.layers.BatchNormalization) and not ranged:
            return call, own
        after = self._consumer(call)
        folds = after is not None and call.order not in self._ranged and self._folds(after)
        return call, after.layer if folds else None  # type: ignore[union-attr]


def _used(hook: Any) -> list[tuple[int, str]]:
    """Where a file has ranges of a layer."""
    tensorrt = context.view() == "tensorrt"
    return [key for key, quantizer in hook.quantizers.items() if not (tensorrt and quantizer.litert_only)]


def _only_shifts(call: LeafCall) -> bool:
    """Whether a call adds a number to all values, which an ONNX file adds to the bias before it."""
    if isinstance(call.layer, keras.layers.Rescaling):
        return call.layer.scale == 1
    return operation_name(call.layer) in ("add", "subtract") and len(call.inputs) == 1
