"""Activations by name, the same functions in both Kerases."""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_compat.running import IS_KERAS_3, keras, serializable


def _own_activations() -> dict[str, Any]:
    """Activations that tf_keras lacks, written as Keras 3 has them."""
    if IS_KERAS_3:
        return {}
    import tensorflow as tf

    def relu6(x):
        return tf.nn.relu6(x)

    def leaky_relu(x):
        return tf.nn.leaky_relu(x, alpha=0.2)

    def celu(x):
        return tf.where(x > 0, x, tf.math.expm1(x))

    def hard_silu(x):
        return x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)

    def hard_tanh(x):
        return tf.clip_by_value(x, -1.0, 1.0)

    # tf_keras has two hard sigmoids; this is torch's, Keras 3's and hard_silu's.
    def hard_sigmoid(x):
        return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)

    functions = {
        function.__name__: function for function in (relu6, leaky_relu, celu, hard_silu, hard_tanh, hard_sigmoid)
    }
    for name, function in functions.items():
        serializable(name)(function)
    return {**functions, "hard_swish": hard_silu, "silu": keras.activations.swish}


@serializable("leaky_relu_001")
def leaky_relu_001(x):
    """Leaky ReLU of slope 0.01, torch's and Darknet's in timm; Keras' ``leaky_relu`` has 0.2."""
    if IS_KERAS_3:
        return keras.ops.leaky_relu(x, negative_slope=0.01)
    import tensorflow as tf

    return tf.nn.leaky_relu(x, alpha=0.01)


_OWN_ACTIVATIONS = {**_own_activations(), "leaky_relu_001": leaky_relu_001}


def activation_function(name: str) -> Any:
    """The activation called ``name``, the same function in both Kerases (``leaky_relu`` has slope 0.2).

    Args:
        name: a name of ``keras.activations``, or ``"package>function"`` of a function registered with
            ``keras.saving.register_keras_serializable``.

    Raises:
        ValueError: there is no such activation.
    """
    if name in _OWN_ACTIVATIONS:
        return _OWN_ACTIVATIONS[name]
    registered = keras.saving.get_registered_object(name)
    if registered is not None:
        return registered
    try:
        return keras.activations.get(name)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"no activation is called {name!r}. Any name of keras.activations will do: 'relu', 'relu6', 'elu', 'selu', "
            "'silu', 'gelu', 'leaky_relu', 'hard_swish' ...; or 'package>function' of one registered with "
            "keras.saving.register_keras_serializable."
        ) from error
