"""Policies of dtype: the global one, a layer's, and computing without any."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from resnet_backbones.keras_compat.running import IS_KERAS_3, keras


def global_policy_name() -> str:
    """The global dtype policy, e.g. ``"float32"`` or ``"mixed_float16"``."""
    return (keras.config.dtype_policy if IS_KERAS_3 else keras.mixed_precision.global_policy)().name


@contextlib.contextmanager
def global_policy(name: str) -> Iterator[None]:
    """Within it, layers made without a dtype have this policy."""
    set_global = keras.config.set_dtype_policy if IS_KERAS_3 else keras.mixed_precision.set_global_policy
    before = global_policy_name()
    set_global(name)
    try:
        yield
    finally:
        set_global(before)


def policy_of(layer: Any) -> Any:
    """A layer's dtype policy, to be handed on to the layers it is made of."""
    return layer.dtype_policy if IS_KERAS_3 else layer._dtype_policy


@contextlib.contextmanager
def computing_in_float32(model: Any) -> Iterator[None]:
    """Within it, every layer below a model computes in float32, whatever its policy of mixed precision.

    Variables are float32 under every mixed policy, so only computing changes. Functions traced before keep their own.

    Args:
        model: a built model.
    """
    float32 = _policy("float32")
    layers = [layer for layer in model._flatten_layers() if policy_of(layer).name.startswith("mixed_")]
    before = [policy_of(layer) for layer in layers]
    try:
        for layer in layers:
            set_policy(layer, float32)
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            set_policy(layer, policy)


def set_policy(layer: Any, policy: Any) -> None:
    """Give a layer another dtype policy."""
    if IS_KERAS_3:
        layer.dtype_policy = policy
    else:
        layer._set_dtype_policy(policy)


def set_float32(layer: Any) -> None:
    """Have a layer, and those inside it, compute in float32 from now on."""
    for part in layer._flatten_layers():
        if policy_of(part).name != "float32":
            set_policy(part, _policy("float32"))


def _policy(name: str) -> Any:
    return keras.dtype_policies.DTypePolicy(name) if IS_KERAS_3 else keras.mixed_precision.Policy(name)
