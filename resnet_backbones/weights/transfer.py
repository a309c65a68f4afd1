"""Setting a backbone's weights from named arrays: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_backbones.errors import WeightsMismatchError

# What a layer of ours holds, by class name; quantizers hang on child layers and are left alone.
_WEIGHTS = {
    "Conv2D": ("kernel", "bias"),
    "DepthwiseConv2D": ("depthwise_kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}


def weighted_layers(model: Any) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Layer name -> (layer, names of its weights), for the layers of a flat model that have weights."""
    found = {}
    for layer in model.layers:
        for cls in type(layer).__mro__:
            if cls.__name__ in _WEIGHTS:
                names = tuple(name for name in _WEIGHTS[cls.__name__] if getattr(layer, name, None) is not None)
                found[layer.name] = (layer, names)
                break
    return found


def assign(model: Any, source: Mapping[str, Any], keys: Mapping[tuple[str, str], str], *, where: str) -> None:
    """Sets every weight of ``model`` from ``source``, after checking that all of them fit.

    Args:
        model: the backbone.
        source: name -> array, already in Keras' axis order.
        keys: (layer name, weight name) -> its name in ``source``.
        where: what ``source`` is, for the error.

    Raises:
        WeightsMismatchError: something is missing, unexpected or of another shape.
    """
    plan: list[tuple[Any, Any]] = []
    wrong = []
    missing = []
    layers = weighted_layers(model)
    for (layer_name, weight_name), key in keys.items():
        variable = getattr(layers[layer_name][0], weight_name)
        ours = f"{layer_name}.{weight_name}"
        label = key if key == ours else f"{key} (for {ours})"
        if key not in source:
            missing.append(label)
        elif tuple(np.shape(source[key])) != tuple(variable.shape):
            wrong.append(f"{label}: {tuple(np.shape(source[key]))}, not {tuple(variable.shape)}")
        else:
            plan.append((variable, source[key]))
    used = set(keys.values())
    unexpected = [key for key in source if key not in used]
    check(model.name, where, missing, unexpected, wrong)
    for variable, value in plan:
        variable.assign(value)


def check(name: str, where: str, missing: list[str], unexpected: list[str], wrong: list[str]) -> None:
    """Raises one error that lists everything that does not fit, if anything does not."""
    if not (missing or unexpected or wrong):
        return
    parts = [f"{where} does not fit backbone {name!r}, which keeps the weights it had."]
    for title, items in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong)):
        if items:
            more = f"\n    ... and {len(items) - 20} more" if len(items) > 20 else ""
            parts.append(f"  {len(items)} {title}:\n    " + "\n    ".join(items[:20]) + more)
    parts.append("Create the backbone by the name, overrides and input channels that the weights were made for.")
    raise WeightsMismatchError("\n".join(parts))
