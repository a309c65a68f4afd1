"""Bare operations of functional models, such as ``x + y`` and ``keras.ops.relu(x)``, named alike in both Kerases.

Written between layers, Keras 3 keeps such an operation as an ``Operation`` of the functional model, tf_keras as a layer
of its own kind (``TFOpLambda``). Both have a ``call`` that can be wrapped, as a layer's can. Operations inside the
``call`` of a layer or of a subclassed model leave nothing that could be wrapped: the layers that read their results
quantize them.
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_compat.running import IS_KERAS_3, keras

# Names that TensorFlow and Keras give an operation -> what it does.
_NAMES = {
    **dict.fromkeys(("add", "add_v2"), "add"),
    **dict.fromkeys(("subtract", "sub"), "subtract"),
    **dict.fromkeys(("multiply", "mul"), "multiply"),
    "maximum": "maximum",
    "minimum": "minimum",
    **dict.fromkeys(("concatenate", "concat"), "concatenate"),
    "relu": "relu",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "softmax": "softmax",
    **dict.fromkeys(("silu", "swish"), "silu"),
    "gelu": "gelu",
    **dict.fromkeys(("leakyrelu", "leaky_relu"), "leaky_relu"),
    **dict.fromkeys(("hardsilu", "hardswish", "hard_silu", "hard_swish"), "hard_silu"),
    **dict.fromkeys(("hardsigmoid", "hard_sigmoid"), "hard_sigmoid"),
}
_RELUS = {(0.0, None, 0.0): "relu", (0.0, 6.0, 0.0): "relu6"}  # (negative slope, largest value, threshold)
_MERGES = frozenset({"add", "subtract", "multiply", "maximum", "minimum", "concatenate"})


def is_operation(layer: Any) -> bool:
    """Whether it is a bare operation of a functional model, in either Keras, and no layer."""
    if IS_KERAS_3:
        return not isinstance(layer, keras.layers.Layer)
    return type(layer).__name__.endswith("OpLambda")


def operation_name(layer: Any) -> str | None:
    """What a bare operation does: ``"add"``, ``"relu"``...; ``None`` for a layer or an operation not known here."""
    if not is_operation(layer):
        return None
    if not IS_KERAS_3:
        return _NAMES.get(str(getattr(layer, "symbol", None) or "").split(".")[-1])
    if not type(layer).__module__.startswith(("keras.src.ops.", "keras.src.activations.")):
        return None
    name = type(layer).__name__.lower()
    if name == "relu" and hasattr(layer, "max_value"):  # what keras.activations.relu makes, which clips and leaks too
        name = _RELUS.get((layer.negative_slope, layer.max_value, layer.threshold), "")
    return _NAMES.get(name)


def operation_activation(layer: Any) -> str | None:
    """The activation that a bare operation is; ``None`` for any other."""
    name = operation_name(layer)
    return None if name in _MERGES else name


def operations_of(model: Any) -> list[tuple[Any, Any]]:
    """The bare operations of a model and of all models inside it.

    Args:
        model: any model.

    Returns:
        Pairs of an operation and the layer that can hold what belongs to it: in Keras 3 the functional model it is in,
        in tf_keras itself.
    """
    pairs = []
    for layer in model._flatten_layers():
        if not IS_KERAS_3 and is_operation(layer):
            pairs.append((layer, layer))
        elif IS_KERAS_3 and isinstance(layer, keras.Model):
            pairs.extend(
                (operation, layer) for operation in getattr(layer, "_operations", ()) if is_operation(operation)
            )
    return pairs


def operation_number(operation: Any, model: Any) -> int:
    """Which of a Keras 3 functional model's bare operations this is, from 0, in the order of its graph."""
    operations = [other for other in model._operations if is_operation(other)]
    return next(number for number, other in enumerate(operations) if other is operation)
