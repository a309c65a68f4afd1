"""What a training backup holds of a model: its variables in groups, what they are, and random numbers' state."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np

from resnet_backbones.keras_compat import float32_variable, keras_name, variable_path
from resnet_backbones.keras_compat.fit import optimizer_variables, random_states
from resnet_backbones.quantization.hooks import hooks_of, quantizers_of

# Keras numbers layers and optimizers that nobody named: "conv2d_7" is the seventh of this process.
_AUTOMATIC_NUMBER = re.compile(r"_\d+(?=[_/:]|$)")


def variables_of(model: Any) -> dict[str, list[Any]]:
    """Group -> variables: of the model (weights, statistics, ranges, switches), its optimizer, its random numbers."""
    in_model = list(model.variables)
    known = {id(float32_variable(variable)) for variable in in_model}
    states = [state for state in random_states(model) if id(float32_variable(state)) not in known]
    return {"model": in_model, "optimizer": optimizer_variables(model), "random": states}


def values_of(groups: dict[str, list[Any]]) -> dict[str, list[np.ndarray]]:
    """The variables' values now."""
    return {name: [np.asarray(float32_variable(v).numpy()) for v in group] for name, group in groups.items()}


def set_values(groups: dict[str, list[Any]], values: dict[str, list[np.ndarray]]) -> None:
    """Gives every variable its value, or after an interrupt none."""
    before = values_of(groups)
    try:
        _assign(groups, values)
    except BaseException:
        _assign(groups, before)
        raise


def _assign(groups: dict[str, list[Any]], values: dict[str, list[np.ndarray]]) -> None:
    for name, group in groups.items():
        for variable, value in zip(group, values[name], strict=True):
            variable.assign(value)


def description(model: Any, groups: dict[str, list[Any]]) -> dict[str, Any]:
    """What the variables are: a backup fits a model that has the same description."""
    return {
        "keras": keras_name(),
        "schemes": sorted({hook.scheme.name for hook in hooks_of(model)}),
        "bits": {
            "activations": [[quantizer.bits, quantizer.symmetric] for quantizer in quantizers_of(model)],
            "kernels": [quantizer.bits for hook in hooks_of(model) for _, quantizer in hook.kernels.values()],
        },
        "optimizer": type(model.optimizer).__name__,
        "variables": {name: [_entry(variable) for variable in group] for name, group in groups.items()},
    }


def difference(saved: dict[str, Any], here: dict[str, Any]) -> str | None:
    """Why a backup does not fit a model, as the end of a sentence; ``None`` when it does."""
    if saved["keras"].split()[0] != here["keras"].split()[0]:
        return f"it was written under {saved['keras']}, and this is {here['keras']}"
    if saved["schemes"] != here["schemes"]:
        return f"it is of {_quantized(saved['schemes'])}, and this model is {_quantized(here['schemes'])}"
    if saved["bits"] != here["bits"]:
        return "its quantizers are others, or of other bits (another exclude= or override=)"
    if saved["optimizer"] != here["optimizer"]:
        return f"it was trained with {saved['optimizer']}, and this model is compiled with {here['optimizer']}"
    for group, entries in saved["variables"].items():
        # tf_keras names an optimizer's variables by where it was built, in fit or before.
        reason = _different_variables(entries, here["variables"][group], names=group == "model")
        if reason is not None:
            return f"of the variables of the {group}, {reason}"
    return None


def random_state() -> dict[str, Any]:
    """The state of Python's and numpy's own random numbers, as plain values."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Sets what :func:`random_state` returned."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, cached))


def _entry(variable: Any) -> list[Any]:
    tensor = float32_variable(variable)
    return [_AUTOMATIC_NUMBER.sub("", variable_path(variable)), [int(size) for size in tensor.shape], tensor.dtype.name]


def _different_variables(saved: list[list[Any]], here: list[list[Any]], names: bool) -> str | None:
    for number, (there, now) in enumerate(zip(saved, here, strict=False)):
        if there[1:] != now[1:] or (names and there[0] != now[0]):
            return f"number {number} is {_named(there)} there and {_named(now)} here"
    if len(saved) != len(here):
        return f"it has {len(saved)}, and this model has {len(here)}"
    return None


def _named(entry: list[Any]) -> str:
    name, shape, dtype = entry
    return f"{name!r} {tuple(shape)} {dtype}"


def _quantized(schemes: list[str]) -> str:
    return f"a model quantized with {', '.join(map(repr, schemes))}" if schemes else "a float model"
