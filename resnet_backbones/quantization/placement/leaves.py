"""Which layers of a model are quantized as a whole, and which are layers of layers."""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_api import keras
from resnet_backbones.keras_api.operations import is_operation, operations_of
from resnet_backbones.quantization.quantizers import ActivationQuantizer, BatchNormFreeze
from resnet_backbones.quantization.rules import has_rule, rule_of
from resnet_backbones.quantization.schedule_state import ScheduleState

_HELPERS = (ActivationQuantizer, BatchNormFreeze, ScheduleState)


def is_leaf(layer: Any) -> bool:
    """Whether a layer is quantized as a whole: its class has a rule, or it holds no layer but this library's helpers.

    A ``Lambda`` is none: what it does is bare operations, whose results are quantized where layers read them.
    """
    if isinstance(layer, (keras.layers.InputLayer, keras.layers.Lambda, *_HELPERS)) or is_operation(layer):
        return False
    return _children(layer) == [] or has_rule(layer)


def _children(layer: Any) -> list[Any]:
    children = layer._flatten_layers(recursive=False, include_self=False)
    return [child for child in children if child is not layer and not isinstance(child, _HELPERS)]


def leaves_of(model: Any) -> tuple[dict[Any, Any], list[Any]]:
    """Every leaf layer below a model and every bare operation that has a rule, and the layers of layers above them.

    Args:
        model: a built model.

    Returns:
        Leaf layer or operation -> the layer that holds what belongs to it; the layers of layers, without the model.
    """
    leaves: dict[Any, Any] = {}
    composites: list[Any] = []
    seen: set[int] = set()

    def visit(layer: Any) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        if layer is not model and is_leaf(layer):
            leaves[layer] = layer
            return
        if layer is not model and _children(layer) and not is_operation(layer):
            composites.append(layer)
        for child in _children(layer):
            visit(child)

    visit(model)
    leaves.update((operation, host) for operation, host in operations_of(model) if rule_of(operation) is not None)
    return leaves, composites
