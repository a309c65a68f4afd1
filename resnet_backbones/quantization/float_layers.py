"""Which layers of a quantized model stay in float, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resnet_backbones.quantization.hooks import hooks_of
from resnet_backbones.quantization.leaves import leaves_of
from resnet_backbones.quantization.model import quantization_of
from resnet_backbones.quantization.placement.selection import Selection, layer_labels
from resnet_backbones.quantization.rules import rule_of
from resnet_backbones.schemes import Scheme
from resnet_backbones.tasks import task_of


@dataclass(frozen=True)
class WhyFloat:
    """Why a layer stays in float.

    Attributes:
        text: the reason.
        chosen: whether that was asked for, by a pattern or by the scheme.
        layer: of an operator, path of the layer that is the reason.
    """

    text: str
    chosen: bool
    layer: str = ""


def float_layers(model: Any) -> dict[Any, WhyFloat]:
    """Leaf layers that compute, carry no quantizer and lie in no quantized layer's chain.

    Args:
        model: a quantized model, or a float one that holds a quantized backbone.

    Returns:
        Layer -> why it stays in float, in the model's order.
    """
    quantization = quantization_of(model) or {}
    task = task_of(model)
    patterns = [*quantization.get("exclude", ()), *(task.keep_float if task else ())]
    scheme = Scheme(**quantization["scheme"]) if quantization else hooks_of(model)[0].scheme
    selections = {pattern: Selection(model, scheme, keep_float=[pattern]) for pattern in dict.fromkeys(patterns)}
    hooked = {id(hook.layer): hook for hook in hooks_of(model)}
    unsupported, labels = quantization.get("unsupported", {}), layer_labels(model)
    by_name = "averages" not in quantization  # a model saved by 0.1.0
    reasons: dict[Any, WhyFloat] = {}
    for layer in leaves_of(model)[0]:
        pattern = next((pattern for pattern, found in selections.items() if found.stays_float(layer)), None)
        rule, hook = rule_of(layer), hooked.get(id(layer))
        if pattern is not None:
            reasons[layer] = WhyFloat(f"excluded by {pattern!r}", True)
        elif (place := layer.name if by_name else labels[id(layer)].removeprefix(f"{model.name}/")) in unsupported:
            reasons[layer] = WhyFloat(unsupported[place], False)
        elif rule is not None and rule.role == "weighted" and not (hook and hook.kernels):
            by_scheme = WhyFloat(_left_by(scheme), scheme.float_outputs)
            reasons[layer] = by_scheme if quantization else WhyFloat("outside of the quantized part", False)
    return reasons


def _left_by(scheme: Scheme) -> str:
    if not scheme.float_outputs:
        return "left in float by the scheme"
    return (
        f"{scheme.name!r} leaves the last layer of each head in float; "
        f"get_scheme({scheme.name!r}).replace(float_outputs=False) quantizes it"
    )
