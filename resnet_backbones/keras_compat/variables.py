"""The ``tf.Variable`` behind a Keras variable, how checkpoints and replicas are told of one, and added children.

Children are layers added to a layer that is built already, tracked and saved like those it made itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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


_ADDED_CHILDREN = "_added_children"


def add_child(parent: Any, name: str, child: Any) -> None:
    """Sets ``parent.name = child`` so that the child's variables are tracked and saved.

    Keras 3 locks a layer's tracker once it is built; the lock is lifted for this one attribute and put
    back (as Keras' own ``enable_lora`` does).
    """
    with _unlocked(parent):
        setattr(parent, name, child)
    parent.__dict__.setdefault(_ADDED_CHILDREN, []).append(name)


def added_children(parent: Any) -> list[str]:
    """Names of the attributes that :func:`add_child` set on the layer."""
    return list(parent.__dict__.get(_ADDED_CHILDREN, ()))


def remove_child(parent: Any, name: str) -> None:
    """Takes back :func:`add_child`: the attribute is gone, and no longer tracked, saved or listed among the layers."""
    child = getattr(parent, name)
    if IS_KERAS_3:
        with _unlocked(parent):
            parent._tracker.untrack(child)
            delattr(parent, name)
    else:
        delattr(parent, name)
        parent._delete_tracking(name)  # tf_keras' own __delattr__ leaves it in checkpoints
    names = parent.__dict__[_ADDED_CHILDREN]
    names.remove(name)
    if not names:
        del parent.__dict__[_ADDED_CHILDREN]


@contextlib.contextmanager
def _unlocked(layer: Any) -> Iterator[None]:
    """Within it, Keras 3 tracks new attributes of a layer that is already built."""
    tracker: Any = getattr(layer, "_tracker", None) if IS_KERAS_3 else None
    locked = tracker is not None and tracker.locked
    if locked:
        tracker.unlock()
    try:
        yield
    finally:
        if locked:
            tracker.lock()
