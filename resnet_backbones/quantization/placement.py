"""Where quantizers go: read off the traced model, by the rules of LiteRT's int8 kernels.

* Nothing between a convolution, its batch norm and its ReLU, nor between an addition and its ReLU: the converter
  fuses them into one operator, so only the end of such a chain has a range.
* Both inputs of an addition and its (activated) output have ranges.
* One tensor, one range. Layers that only move values (padding, max pooling, nearest upsampling) add none.
* A layer called several times, such as a detection head shared by the pyramid levels, has its own ranges per call.
* What a bare operation computed is quantized where the next layers read it.

Source: LiteRT's int8 specification, https://ai.google.dev/edge/litert/models/quantization_spec
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from resnet_backbones.keras_api import keras
from resnet_backbones.quantization.rules import FIXED_RANGES, FUSED, Rule, activation_name, rule_of
from resnet_backbones.quantization.trace import LeafCall, Trace
from resnet_backbones.specs.base import INT8_ACTIVATIONS


@dataclass
class QuantizerSite:
    """One range, and every point it is applied at: (order of the leaf call, port).

    Ports: ``"output"``, ``"preactivation"`` (inside a layer, before its own activation), ``"input:0"``...
    """

    points: list[tuple[int, str]]
    fixed_range: tuple[float, float] | None = None


@dataclass
class Placement:
    """What to quantize: ``sites`` (activations), ``kernels`` and ``batch_norms`` (orders of leaf calls).

    ``unsupported`` maps layer names to why they stay in float though nobody asked for it. ``lone_batch_norms`` are
    those of ``batch_norms`` that fold into nothing.
    """

    sites: list[QuantizerSite] = field(default_factory=list)
    kernels: list[int] = field(default_factory=list)
    batch_norms: list[int] = field(default_factory=list)
    unsupported: dict[str, str] = field(default_factory=dict)
    lone_batch_norms: list[int] = field(default_factory=list)


def place(trace: Trace, exclude: Sequence[str] = ()) -> Placement:
    """Decides where quantizers go.

    Args:
        trace: the traced model.
        exclude: patterns (``fnmatch``) of layer names to leave in float.

    Returns:
        The placement.
    """
    return _Placer(trace, tuple(exclude)).run()


class _Placer:
    def __init__(self, trace: Trace, exclude: tuple[str, ...]) -> None:
        self.trace, self.exclude = trace, exclude
        self.placement = Placement()
        self._quantized_at_output: set[int] = set()  # ids of tensors
        self._site_at_inputs: dict[int, QuantizerSite] = {}
        self._absorbed: set[int] = set()  # orders of calls inside an earlier call's chain

    def run(self) -> Placement:
        for call in self.trace.calls:
            rule = self._rule(call)
            if isinstance(call.layer, keras.layers.BatchNormalization):
                self.placement.batch_norms.append(call.order)
            if rule is None or call.order in self._absorbed:
                continue
            place = getattr(self, f"_place_{rule.role}")
            place(call)
        return self.placement

    # --- one method a role -------------------------------------------------------------------------------------

    def _place_same_range(self, call: LeafCall) -> None:
        if call.outputs and all(any(out is given for given in call.inputs) for out in call.outputs):
            return  # an identity in inference, such as dropout
        self._quantize_inputs(call)

    def _place_weighted(self, call: LeafCall) -> None:
        self._quantize_inputs(call)
        self.placement.kernels.append(call.order)
        activation = activation_name(call.layer)
        if activation is None or activation in FUSED:
            self._quantize_output(self._end_of_chain(call))
            return
        self.placement.sites.append(QuantizerSite([(call.order, "preactivation")]))
        if activation in INT8_ACTIVATIONS:
            self._quantize_output(call, FIXED_RANGES.get(activation))
        else:
            self._report_activation(call, activation)

    def _place_add(self, call: LeafCall) -> None:
        self._quantize_inputs(call)
        self._quantize_output(self._end_of_chain(call))

    def _place_batch_norm(self, call: LeafCall) -> None:
        self.placement.lone_batch_norms.append(call.order)
        self._place_add(call)

    def _place_activation(self, call: LeafCall) -> None:
        activation = activation_name(call.layer)
        if activation is None:  # linear
            return
        if activation not in INT8_ACTIVATIONS:
            self._report_activation(call, activation)
            return
        self._quantize_inputs(call)
        self._quantize_output(call, FIXED_RANGES.get(activation))

    def _place_compute(self, call: LeafCall) -> None:
        if isinstance(call.layer, (keras.layers.Rescaling, keras.layers.Normalization)) and self._reads_model_input(
            call
        ):
            self._quantize_output(call)  # preprocessing: the exported file takes its result as input
            return
        self._quantize_inputs(call)
        if not self._joins_outputs(call):
            self._quantize_output(call)

    # --- helpers -----------------------------------------------------------------------------------------------

    def _rule(self, call: LeafCall) -> Rule | None:
        layer = call.layer
        if any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in self.exclude):
            return None
        rule = rule_of(layer)
        if rule is None:
            self.placement.unsupported[layer.name] = f"no quantization rule for {type(layer).__name__}"
        return rule

    def _report_activation(self, call: LeafCall, activation: str) -> None:
        self.placement.unsupported[call.layer.name] = f"activation {activation!r} has no int8 form in LiteRT"

    def _end_of_chain(self, call: LeafCall) -> LeafCall:
        """The last call the converter fuses into this one: its batch norm, then its ReLU."""
        end = call
        following = self.trace.only_consumer(end.outputs[0])
        if following and self._role(following) == "batch_norm" and self._role(call) == "weighted":
            end = self._absorb(following)
            following = self.trace.only_consumer(end.outputs[0])
        if following and self._role(following) == "activation" and activation_name(following.layer) in FUSED:
            end = self._absorb(following)
        return end

    def _absorb(self, call: LeafCall) -> LeafCall:
        self._absorbed.add(call.order)
        return call

    def _role(self, call: LeafCall) -> str | None:
        rule = self._rule(call)
        return rule.role if rule else None

    def _quantize_output(self, call: LeafCall, fixed_range: tuple[float, float] | None = None) -> None:
        self._quantized_at_output.update(id(tensor) for tensor in call.outputs)
        self.placement.sites.append(QuantizerSite([(call.order, "output")], fixed_range))

    def _quantize_inputs(self, call: LeafCall) -> None:
        for position, tensor in enumerate(call.inputs):
            if tensor.dtype.is_floating and not self._is_quantized(tensor):
                self._quantize_input(call, position, tensor)

    def _quantize_input(self, call: LeafCall, position: int, tensor: tf.Tensor) -> None:
        point = (call.order, f"input:{position}")
        site = self._site_at_inputs.get(id(tensor))
        if site is None:
            site = self._site_at_inputs[id(tensor)] = QuantizerSite([])
            self.placement.sites.append(site)
        site.points.append(point)

    def _is_quantized(self, tensor: tf.Tensor) -> bool:
        """Whether the tensor carries a range: from its producer, or moved unchanged from one that does."""
        if id(tensor) in self._quantized_at_output:
            return True
        producer = self.trace.producer(tensor)
        if producer is not None:
            # A same-range layer's inputs were quantized when it was placed, before any reader of its output.
            return self._role(producer) == "same_range"
        source = self.trace.moved_from(tensor)
        return source is not None and self._is_quantized(source)

    def _reads_model_input(self, call: LeafCall) -> bool:
        return all(any(tensor is given for given in self.trace.inputs) for tensor in call.inputs)

    def _joins_outputs(self, call: LeafCall) -> bool:
        """Whether the call only concatenates what the model returns: an export returns the parts instead."""
        output = call.outputs[0]
        is_output = any(output is tensor for tensor in self.trace.outputs)
        return is_output and isinstance(call.layer, keras.layers.Concatenate) and not self.trace.consumers(output)


def placement_to_dict(placement: Placement) -> dict[str, Any]:
    """The placement as plain values, as saved models carry it."""
    sites = [{"points": [list(point) for point in s.points], "fixed_range": s.fixed_range} for s in placement.sites]
    return {
        "sites": sites,
        "kernels": placement.kernels,
        "batch_norms": placement.batch_norms,
        "lone_batch_norms": placement.lone_batch_norms,
    }


def placement_from_dict(data: dict[str, Any]) -> Placement:
    """The placement that :func:`placement_to_dict` wrote."""
    sites = [
        QuantizerSite(
            [(order, port) for order, port in s["points"]], tuple(s["fixed_range"]) if s["fixed_range"] else None
        )
        for s in data["sites"]
    ]
    lone = list(data.get("lone_batch_norms", ()))  # files of version 0.1 have none
    return Placement(sites, list(data["kernels"]), list(data["batch_norms"]), lone_batch_norms=lone)
