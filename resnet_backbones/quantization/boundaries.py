"""Where one quantized model ends: models that share layers, and quantizing a model a second time.

A model's description (``model.quantization_of``) says which ranges its layers have. Layers that another model was
quantized with have ranges that this model's description does not mention: its saved copies and files would be other
models than the one in memory. So that is an error, and the message says which call sets it right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from resnet_backbones.keras_compat import added_children, input_signature
from resnet_backbones.quantization import context
from resnet_backbones.quantization.bias_rounding import BiasRounding
from resnet_backbones.quantization.hooks import hook_of, hooks_of, layers_and_operations, quantizers_of
from resnet_backbones.quantization.model import describes_all_ranges, quantization_of, quantized_models
from resnet_backbones.quantization.placement.biases import BiasSite
from resnet_backbones.quantization.placement.selection import Selection, layer_labels
from resnet_backbones.quantization.placement.sites import Placement, QuantizerSite
from resnet_backbones.quantization.trace import Trace
from resnet_backbones.schemes import Scheme


def check_described(model: Any) -> None:
    """Refuses a model whose layers have ranges that it does not know of itself.

    Args:
        model: any built model.

    Raises:
        ValueError: other models were quantized with layers of this one, or it calls quantized layers that Keras
            does not know to be its own; the message names them.
    """
    found = hooks_of(model)
    if not found or (quantization_of(model) is not None and describes_all_ranges(model)):
        _check_all_tracked(model)
        return
    others = [repr(other.name) for other in quantized_models() if other is not model and _share_layers(model, other)]
    by = f" by the quantization of {', '.join(sorted(set(others)))}" if others else ""
    raise ValueError(
        f"{len(found)} layers of {model.name!r} are quantized{by}, but the model itself was not: it was built around "
        f"them, or is a part of another model. quantize_aware(model, {found[0].scheme.name!r}) completes it; pass "
        "calibration_data= for ranges it needs besides. Or export the model that was quantized, or ask for "
        "precision='float32' to leave the ranges out."
    )


def _check_all_tracked(model: Any) -> None:
    """Refuses quantized layers that a model calls from within a Lambda or an attribute Keras does not track."""
    own = [*quantizers_of(model), *(q for found in hooks_of(model) for q in found.quantizers.values())]
    known = {id(quantizer) for quantizer in own}
    others = [q for other in quantized_models() for q in quantizers_of(other) if id(q) not in known]
    signature = input_signature(model)
    if not others or not model.built or signature is None:
        return
    records: list[tuple[Any, Any]] = []
    with context.use_mode(context.CALIBRATE), context.using(records=records):
        tf.function(lambda inputs: model(inputs, training=False), autograph=False).get_concrete_function(signature)
    names = list(dict.fromkeys(quantizer.name for quantizer, _ in records if id(quantizer) not in known))
    if names:
        raise ValueError(
            f"{model.name!r} calls quantized layers that are none of its own ({len(names)} ranges, first: "
            f"{', '.join(names[:3])}): they stand in a Lambda, or where Keras does not look for layers, and would be "
            "exported in float. Make the quantized model a layer of a functional model, or an attribute of the model "
            "that calls it; then quantize_aware(model) completes it. Or ask for "
            "precision='float32' to leave the ranges out."
        )


def check_again(model: Any, scheme: Scheme, selection: Selection) -> None:
    """Refuses to quantize a second time by other rules: ranges of the first time would stay.

    Args:
        model: any built model.
        scheme: of the second time.
        selection: its patterns.

    Raises:
        ValueError: the model, or one inside it, is quantized with another scheme or with other patterns.
    """
    for found in hooks_of(model):
        if found.scheme != scheme:
            raise ValueError(
                f"{type(model).__name__} {model.name!r} is already quantized with scheme {found.scheme.name!r}; one "
                f"model has one scheme. Pass scheme={found.scheme.name!r}, or call strip_quantization(model) first to "
                f"quantize it with {scheme.name!r}."
            )
    own = quantization_of(model)
    if own is not None and (tuple(own["exclude"]), own["override"]) != (selection.exclude, selection.override):
        raise ValueError(
            f"{type(model).__name__} {model.name!r} is already quantized with exclude={own['exclude']}, "
            f"override={own['override']}. Call strip_quantization(model) first to quantize it with "
            f"exclude={list(selection.exclude)}, override={selection.override}."
        )
    for inner in layers_and_operations(model):
        quantization = None if inner is model else quantization_of(inner)
        if quantization is None or not quantization["exclude"]:
            continue
        kept = Selection(inner, scheme, keep_float=quantization["exclude"])
        lost = [one for one in layers_and_operations(inner) if kept.stays_float(one) and not selection.stays_float(one)]
        if lost:
            first = layer_labels(model)[id(lost[0])]
            raise ValueError(
                f"{inner.name!r} inside {model.name!r} is quantized with exclude={quantization['exclude']}, which this "
                f"call does not keep in float (first: {first!r}). Give the same patterns as exclude, or call "
                "strip_quantization(model) first."
            )


def check_completes(model: Any, trace: Trace, placement: Placement, biases: Sequence[BiasSite]) -> None:
    """Refuses a placement that does not hold all that is quantized already: its ranges would stay beside the new ones.

    Args:
        model: a model some of whose layers may be quantized.
        trace: the model, traced.
        placement: where its quantizers are to go.
        biases: what it rounds besides.

    Raises:
        ValueError: a layer's range, kernel or bias is not in the placement, or is another there.
    """
    wrong = _Completion(trace, placement, biases).conflict(hooks_of(model))
    if wrong is not None:
        label = layer_labels(model)[id(wrong)]
        raise ValueError(
            f"Layer {label!r} of {model.name!r} is quantized already, but as a part of another model: other layers "
            "before or after it want other ranges here. Call strip_quantization(model) first, then quantize the whole "
            "model."
        )


def check_others(model: Any, described_before: Sequence[Any]) -> None:
    """Refuses new ranges in the layers of a quantized model that is no part of this one.

    Args:
        model: the model just quantized.
        described_before: quantized models whose descriptions were complete before that.

    Raises:
        ValueError: one of them has ranges now that it does not know of.
    """
    inside = {id(layer) for layer in layers_and_operations(model)}
    for other in described_before:
        if other is model or describes_all_ranges(other) or {id(found.layer) for found in hooks_of(other)} <= inside:
            continue
        raise ValueError(
            f"{model.name!r} needs ranges that {other.name!r}, whose layers it shares, was quantized without; that "
            "model would silently change. End this one at a layer whose output has a range (quantization_summary lists "
            f"them), or call strip_quantization on {other.name!r} first."
        )


def complete_descriptions() -> list[Any]:
    """The living quantized models whose layers have no ranges but their own."""
    return [other for other in quantized_models() if quantization_of(other) is not None and describes_all_ranges(other)]


def _share_layers(model: Any, other: Any) -> bool:
    return not {id(found.layer) for found in hooks_of(model)}.isdisjoint(id(found.layer) for found in hooks_of(other))


class _Completion:
    """Compares a placement with the quantizers that layers have."""

    def __init__(self, trace: Trace, placement: Placement, biases: Sequence[BiasSite]) -> None:
        self._calls, self._placement = trace.points, placement
        self._sites = {self._key(*point): site for site in placement.sites for point in site.points}
        self._kernels = {id(self._calls[order].layer): bits for order, bits in placement.kernels.items()}
        self._lone = {id(self._calls[order].layer) for order in placement.lone_batch_norms}
        self._biases = {self._key(bias.order, ""): bias for bias in biases}

    def _key(self, order: int, port: str) -> tuple[int, int, str]:
        call = self._calls[order]
        return id(call.layer), call.index, port

    def conflict(self, hooks: Sequence[Any]) -> Any:
        """The first layer that is quantized otherwise than the placement says; ``None`` if none is."""
        for found in hooks:
            same = (
                all(self._fits(self._sites.get((id(found.layer), *key)), one) for key, one in found.quantizers.items())
                and all(quantize.bits == self._kernels.get(id(found.layer)) for _, quantize in found.kernels.values())
                and (found.freeze is None or found.stands_alone == (id(found.layer) in self._lone))
                and all(self._rounds(rounding, index, found) for index, rounding in found.biases.items())
            )
            if not same:
                return found.layer
        return None

    def _fits(self, site: QuantizerSite | None, quantizer: Any) -> bool:
        """Whether the quantizer at a point is the one that the placement has there, read off the same layer."""
        if site is None:
            return False
        same = (quantizer.bits, quantizer.symmetric, quantizer.fixed_range, quantizer.litert_only) == (
            site.bits,
            site.symmetric,
            site.fixed_range,
            site.litert_only,
        )
        return same and self._present(site) is quantizer and self._holds(site, quantizer)

    def _rounds(self, rounding: BiasRounding, index: int, found: Any) -> bool:
        """Whether a bias is rounded in steps of the same input and kernel."""
        bias = self._biases.get((id(found.layer), index, ""))
        if bias is None or rounding.weighted is not self._calls[bias.weighted].layer:
            return False
        return rounding.read is self._present(self._placement.sites[bias.site])

    def _holds(self, site: QuantizerSite, quantizer: Any) -> bool:
        """Whether the quantizer's variables are saved with a site's first layer, not with a layer of another model."""
        host = hook_of(self._calls[site.points[0][0]].layer).host  # type: ignore[union-attr]  # it is present
        return any(getattr(host, name) is quantizer for name in added_children(host))

    def _present(self, site: QuantizerSite) -> Any:
        """The quantizer that stands at a site's first point already, which holds its variables; else ``None``."""
        order, port = site.points[0]
        owner = hook_of(self._calls[order].layer)
        return None if owner is None else owner.quantizers.get((self._calls[order].index, port))
