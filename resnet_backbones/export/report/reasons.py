"""Why operators of a quantized file compute in float: the layer they belong to says, or the one before them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resnet_backbones.export.contents import Census, Operator
from resnet_backbones.export.sources import Sources
from resnet_backbones.quantization.float_layers import WhyFloat, float_layers


def float_reasons(model: Any, census: Census, sources: Sources) -> dict[str, WhyFloat]:
    """Reasons as far as layers tell them.

    Args:
        model: the quantized model.
        census: the file's operators, in order.
        sources: which layer each operation of the exported function comes from.

    Returns:
        Name of an operator's output tensor -> why it is not in integers.
    """
    layers = float_layers(model)
    reasons: dict[str, WhyFloat] = {}
    behind: dict[str, str] = {}  # tensor -> the layer in float that it comes of
    for operator in census.not_int8():
        call = _call_of(operator, sources)
        if call is not None and call.layer in layers:
            label = sources.label(call)
            reasons[operator.output] = replace(layers[call.layer], layer=label.split("#")[0])
        else:
            label = next((behind[name] for name in operator.inputs if name in behind), "")
            if not label:
                continue
            reasons[operator.output] = WhyFloat(f"it reads what {label} computes in float", False, label.split("#")[0])
        behind.update((name, label) for name in (operator.output, *operator.others))
    return reasons


def _call_of(operator: Operator, sources: Sources) -> Any:
    """The layer call that an operator computes; where it multiplies by a kernel, the call of the kernel's layer."""
    found = sources.weighted(operator.output) if operator.macs else None
    return sources.call_of(operator.output.split(";")[0]) if found is None else found[0]
