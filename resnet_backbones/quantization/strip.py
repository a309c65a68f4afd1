"""Takes quantization off a model: all of it, or what was added since a state was noted.

What quantizing added is a wrapped ``call`` and tracked child layers on some layers, and another class on some models
(``hooks.py``, ``model.py``). All of it comes off, so that weights, layers, configuration and saved files are again
what they were; weights keep the values that training gave them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resnet_backbones.keras_compat import added_children, keras, remove_child
from resnet_backbones.quantization.hooks import hook_of, hooks_of, layers_and_operations
from resnet_backbones.quantization.model import (
    as_float_model,
    as_quantized_model,
    drop_traced_functions,
    quantization_of,
    quantized_models,
)


def strip_quantization(model: Any) -> Any:
    """Gives the float model back, in place, with the weights it has now.

    Quantizers, their ranges and the switches of a quantization schedule are removed, from the model and every model
    inside it. What was compiled stays compiled; the train step is built anew. A float model is returned as it is.

    Args:
        model: a quantized model, or a float one that may hold a quantized backbone.

    Returns:
        The same model.

    Raises:
        ValueError: the model is a part of a quantized model, whose description of itself would no longer hold.

    Example:
        >>> quantize_aware(model, calibration_data=images)
        >>> model.fit(train)  # weights learn to live with int8
        >>> strip_quantization(model).save("float.keras")
    """
    layers = layers_and_operations(model)
    if any(hook_of(layer) or added_children(layer) or quantization_of(layer) for layer in layers):
        _check_whole(model, layers)
        try:
            restore_quantization(model, QuantizationState())
        except BaseException:  # an interrupt: what was begun is ended, no model is half float
            restore_quantization(model, QuantizationState())
            raise
    return model


@dataclass
class QuantizationState:
    """What is quantized in a model at one moment, as :func:`quantization_state` notes it; by default nothing.

    Attributes:
        hooks: id of a layer -> the attributes of its hook.
        children: (id of a layer, name) -> weights of a child layer that quantization added.
        models: id of a model -> what was quantized in it.
    """

    hooks: dict[int, dict[str, Any]] = field(default_factory=dict)
    children: dict[tuple[int, str], list[Any]] = field(default_factory=dict)
    models: dict[int, dict[str, Any]] = field(default_factory=dict)


def quantization_state(model: Any) -> QuantizationState:
    """Notes what is quantized in a model, ranges included, for :func:`restore_quantization`.

    Args:
        model: any built model, float or quantized.
    """
    state = QuantizationState()
    for layer in layers_and_operations(model):
        found = hook_of(layer)
        if found is not None:
            state.hooks[id(layer)] = _copied(vars(found))
        for name in added_children(layer):
            state.children[id(layer), name] = getattr(layer, name).get_weights()
        quantization = quantization_of(layer)
        if quantization is not None:
            state.models[id(layer)] = quantization
    return state


def restore_quantization(model: Any, state: QuantizationState) -> None:
    """Takes off what was added since, and sets ranges and switches back to what they were.

    Weights of the model itself are left alone.

    Args:
        model: the model the state was noted of.
        state: what :func:`quantization_state` returned.
    """
    for layer in layers_and_operations(model):
        found = hook_of(layer)
        if found is not None and id(layer) in state.hooks:
            vars(found).clear()
            vars(found).update(_copied(state.hooks[id(layer)]))
        elif found is not None:
            _unhook(layer)
        for name in added_children(layer):
            weights = state.children.get((id(layer), name))
            if weights is None:
                remove_child(layer, name)
            else:
                getattr(layer, name).set_weights(weights)
        if isinstance(layer, keras.Model):
            quantization = state.models.get(id(layer))
            as_float_model(layer) if quantization is None else as_quantized_model(layer, quantization)
            drop_traced_functions(layer)
    for other in quantized_models():  # a backbone whose layers a functional model took over without holding it
        if id(other) not in state.models and not hooks_of(other):
            as_float_model(other)


def _unhook(layer: Any) -> None:
    """The layer's ``call`` is again what it was before it was wrapped."""
    wrapped = layer.__dict__["_quantization_hook"]._call
    if getattr(wrapped, "__func__", None) is type(layer).call:
        layer.__dict__.pop("call", None)
    else:  # someone had put a call of their own on the instance
        layer.__dict__["call"] = wrapped
    layer.__dict__.pop("get_config", None)
    del layer.__dict__["_quantization_hook"]


def _check_whole(model: Any, layers: list[Any]) -> None:
    inside, hooked = {id(layer) for layer in layers}, _hooked(model)
    for other in quantized_models():
        if id(other) not in inside and hooked < _hooked(other):
            raise ValueError(
                f"{type(model).__name__} {model.name!r} is a part of the quantized {type(other)._float_class.__name__} "
                f"{other.name!r}: strip that one, or build the part again from its configuration."
            )


def _hooked(model: Any) -> set[int]:
    return {id(found.layer) for found in hooks_of(model)}


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes, dictionaries copied: hooks add entries to theirs."""
    return {name: dict(value) if isinstance(value, dict) else value for name, value in attributes.items()}
