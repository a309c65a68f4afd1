"""Children added to a layer that is built already, tracked and saved like those it made itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from resnet_backbones.keras_compat.running import IS_KERAS_3

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
