"""The ``tf.Variable`` behind a Keras variable, and how checkpoints and replicas are told of one."""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_compat.running import IS_KERAS_3

# The attribute that holds a DepthwiseConv2D's kernel.
DEPTHWISE_KERNEL = "kernel" if IS_KERAS_3 else "depthwise_kernel"


def float32_variable(variable: Any) -> Any:
    """The ``tf.Variable`` behind a Keras variable, without the cast that mixed precision puts round it."""
    variable = getattr(variable, "_value", variable) if IS_KERAS_3 else variable
    return getattr(variable, "_variable", variable)  # tf_keras' AutoCastVariable


def same_on_every_replica() -> Any:
    """How ``add_weight`` is told that all replicas of a ``tf.distribute`` strategy assign a variable the same value."""
    if IS_KERAS_3:
        return "only_first_replica"
    import tensorflow as tf

    return tf.VariableAggregation.ONLY_FIRST_REPLICA


def kept_in_checkpoints(layer: Any, name: str, variable: Any) -> Any:
    """The variable, known to TensorFlow too, for ``tf.train.Checkpoint`` and SavedModels.

    Keras 3 makes variables known to TensorFlow only where they are set as attributes; tf_keras in ``add_weight``.
    """
    if IS_KERAS_3:
        layer._track_trackable(variable, name=name)
    return variable


def variable_path(variable: Any) -> str:
    """Where a variable is in its model: Keras 3's path, tf_keras' name."""
    return variable.path if IS_KERAS_3 and hasattr(variable, "path") else variable.name
