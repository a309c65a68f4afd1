"""What the placement rules of all targets share: roles, chains that fuse, and the sites of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import tensorflow as tf

from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.placement.selection import Selection, layer_labels
from resnet_backbones.quantization.placement.sites import Placement, QuantizerSite
from resnet_backbones.quantization.rules import FUSED, Rule, activation_name, averages, rule_of, why_without_rule
from resnet_backbones.quantization.trace import LeafCall, Trace


class Placer:
    """Walks the leaf calls in order and fills a placement; a target's rules are a subclass with a method a role."""

    def __init__(self, trace: Trace, selection: Selection) -> None:
        self.trace, self.selection, self.scheme = trace, selection, selection.scheme
        self.placement = Placement()
        self._absorbed: set[int] = set()  # orders of calls inside an earlier call's chain
        self._depths: dict[int, int] = {}  # id of a tensor -> weighted layers on the longest way to it

    def run(self) -> Placement:
        """Places everything.

        Returns:
            The placement.
        """
        for call in self.trace.calls:
            rule = self.rule(call)
            if isinstance(call.layer, keras.layers.BatchNormalization):
                self.placement.batch_norms.append(call.order)
            if call.order in self._absorbed:
                continue
            if rule is not None and averages(call.layer):
                self.placement.averages.append(call.order)
            if rule is None:
                if _is_weighted(call):  # what would have fused into it stays in float with it
                    self.absorb_chain(call)
                continue
            getattr(self, f"place_{rule.role}")(call)
        self._note_undivided()
        return self.placement

    def _note_undivided(self) -> None:
        """Notes recurrent layers that run as a whole, as tf_keras' may, past the cell inside them."""
        called = {id(call.layer) for call in self.trace.calls}
        for layer in (call.layer for call in self.trace.composites):
            if isinstance(layer, keras.layers.RNN) and not self.selection.stays_float(layer):
                inside = layer._flatten_layers(include_self=False)
                if not any(id(one) in called for one in inside):
                    self.unsupported(layer, why_without_rule(layer))

    def rule(self, call: LeafCall) -> Rule | None:
        """The rule of the call's layer; ``None`` when it stays in float."""
        if self.selection.stays_float(call.layer):
            return None
        rule = rule_of(call.layer)
        if rule is None:
            self.unsupported(call.layer, why_without_rule(call.layer))
        return rule

    def unsupported(self, layer: Any, reason: str) -> None:
        """Notes why a layer stays in float though nobody asked for it."""
        self.placement.unsupported[self._labels[id(layer)].removeprefix(f"{self.trace.model.name}/")] = reason

    @cached_property
    def _labels(self) -> dict[int, str]:
        return layer_labels(self.trace.model)

    def role(self, call: LeafCall) -> str | None:
        """The role of the call's layer; ``None`` when it stays in float."""
        rule = self.rule(call)
        return rule.role if rule else None

    def chain(self, call: LeafCall) -> list[LeafCall]:
        """The call, and those a target fuses into it: its batch norm, then its ReLU. Its own activation ends it."""
        chain = [call]
        if activation_name(call.layer) is not None:
            return chain
        following = self.trace.only_consumer(call.outputs[0])
        if following and self.role(following) == "batch_norm" and _is_weighted(call):
            chain.append(following)
            following = self.trace.only_consumer(following.outputs[0])
        if following and self.role(following) == "activation" and activation_name(following.layer) in FUSED:
            chain.append(following)
        return chain

    def absorb_chain(self, call: LeafCall) -> LeafCall:
        """Marks what is fused into the call as done; the last of it."""
        *_, end = chain = self.chain(call)
        self._absorbed.update(member.order for member in chain[1:])
        return end

    def kernel(self, call: LeafCall) -> None:
        """Notes that the call's kernels are quantized."""
        self.placement.kernels[call.order] = self.selection.bits(call.layer).kernel

    def between(self, call: LeafCall) -> None:
        """Ranges for the tensors inside a layer that runs as several operators."""
        rule = self.rule(call)
        composite = rule.composite if rule else None
        for number in range(composite.count(len(call.inputs)) if composite else 0):
            self.site([(call.order, f"between:{number}")], self.selection.bits(call.layer).activation)

    def site(self, points: list[tuple[int, str]], bits: int, fixed_range=None, symmetric=None) -> QuantizerSite:
        """A new site, noted in the placement."""
        if symmetric is None:
            symmetric = self.scheme.symmetric_activations or bits > 8  # LiteRT's int16 has no zero point
        site = QuantizerSite(points, fixed_range, bits, symmetric)
        self.placement.sites.append(site)
        return site

    def fused_addend(self, added: Sequence[tf.Tensor]) -> int | None:
        """Which of the tensors of an addition the convolution that made it can add up itself, in its accumulators.

        TensorRT runs convolution, batch norm, addition and activation as one kernel when nothing stands between the
        convolution and the addition. Of several such inputs (a projection shortcut beside the trunk) it is the deepest.
        """
        candidates = [i for i, tensor in enumerate(added) if self._made_by_convolution(tensor)]
        return max(candidates, key=lambda i: (self.depth(added[i]), i), default=None)

    def fused_addends(self, added: Sequence[tf.Tensor]) -> list[int]:
        """The same of an addition of several, which is computed pair by pair: of each further one by itself."""
        first = self.fused_addend(added[:2])
        others = [i for i in range(2, len(added)) if self._made_by_convolution(added[i])]
        return others if first is None else [first, *others]

    def _made_by_convolution(self, tensor: tf.Tensor) -> bool:
        made_by = self.trace.producer(tensor)
        if made_by is None or not self.trace.read_once(tensor):
            return False
        if self.role(made_by) == "batch_norm":
            source = made_by.inputs[0]
            made_by = self.trace.producer(source) if self.trace.only_consumer(source) is made_by else None
        return made_by is not None and made_by.order in self.placement.kernels and not activation_name(made_by.layer)

    def depth(self, tensor: tf.Tensor) -> int:
        """Weighted layers on the longest way from the model's input to a tensor."""
        if id(tensor) not in self._depths:
            made_by = self.trace.producer(tensor)
            sources = made_by.inputs if made_by else [self.trace.canonical(t) for t in tensor.op.inputs]
            own = 1 if made_by and self.role(made_by) == "weighted" else 0
            self._depths[id(tensor)] = own + max((self.depth(source) for source in sources), default=0)
        return self._depths[id(tensor)]


def _is_weighted(call: LeafCall) -> bool:
    """Whether the call multiplies by kernels, in float or not."""
    rule = rule_of(call.layer)
    return rule is not None and rule.role == "weighted"
