"""Which layers of a model are quantized as a whole, and which are layers of layers."""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_compat import keras
from resnet_backbones.keras_compat.operations import is_operation, operations_of
from resnet_backbones.quantization.quantizers import ActivationQuantizer, BatchNormFreeze
from resnet_backbones.quantization.rules import has_rule, role_of, rule_of
from resnet_backbones.quantization.schedule_state import ScheduleState

_HELPERS = (ActivationQuantizer, BatchNormFreeze, ScheduleState)


WITH_ACTIVATIONS = "leaves_with_activations"  # key of what was quantized: how its layers were told apart


def is_leaf(layer: Any, *, with_activations: bool = True) -> bool:
    """Whether a layer is quantized as a whole.

    Its class has a rule, or it holds no layer but this library's helpers, or it computes with weights of its own and
    holds no other layers but activations, as ``Conv1D(4, 3, activation=ReLU())`` does. A ``Lambda`` is none: what it
    does is bare operations, whose results are quantized where layers read them.

    Args:
        layer: any layer.
        with_activations: ``False`` for what 0.1.0 took for one.
    """
    if isinstance(layer, (keras.layers.InputLayer, keras.layers.Lambda, *_HELPERS)) or is_operation(layer):
        return False
    if not with_activations:
        return _children(layer) == [] or rule_of(layer) is not None
    return has_rule(layer) or (all(_activates(layer, child) for child in _children(layer)) and _computes(layer))


def _activates(layer: Any, child: Any) -> bool:
    """Whether a child is an activation of the layer: by its class, or by its place in the layer."""
    given = any(value is child for name, value in vars(layer).items() if name.endswith("activation"))
    return given or role_of(child) == "activation"


def _computes(layer: Any) -> bool:
    """Whether a layer has weights besides those of the layers in it, or no layers in it."""
    inside = list(layer._flatten_layers(include_self=False))
    of_others = {id(weight) for child in inside if child is not layer for weight in child.weights}
    return _children(layer) == [] or any(id(weight) not in of_others for weight in layer.weights)


def _children(layer: Any) -> list[Any]:
    children = layer._flatten_layers(recursive=False, include_self=False)
    return [child for child in children if child is not layer and not isinstance(child, _HELPERS)]


def leaves_of(model: Any, quantization: dict[str, Any] | None = None) -> tuple[dict[Any, Any], list[Any]]:
    """Every leaf layer below a model and every bare operation that has a rule, and the layers of layers above them.

    Args:
        model: a built model.
        quantization: what is about to be put back into it; default: what was quantized in it.

    Returns:
        Leaf layer or operation -> the layer that holds what belongs to it; the layers of layers, without the model.
    """
    leaves: dict[Any, Any] = {}
    composites: list[Any] = []
    seen: set[int] = set()

    def visit(layer: Any, quantization: dict[str, Any] | None) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        quantization = layer.__dict__.get("_quantization", quantization)
        as_now = quantization is None or WITH_ACTIVATIONS in quantization
        if layer is not model and is_leaf(layer, with_activations=as_now):
            leaves[layer] = layer
            return
        if layer is not model and _children(layer) and not is_operation(layer):
            composites.append(layer)
        for child in _children(layer):
            visit(child, quantization)

    visit(model, quantization)
    leaves.update((operation, host) for operation, host in operations_of(model) if rule_of(operation) is not None)
    return leaves, composites
