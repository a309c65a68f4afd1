"""What training adds to the loss for large kernels. Knows no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnet_backbones._util.checks import in_range

_KERAS_FACTOR = 0.01  # what Keras takes for "l1" and "l2" given by name
_NAMES = {
    "l1": {"l1": _KERAS_FACTOR},
    "l2": {"l2": _KERAS_FACTOR},
    "l1_l2": {"l1": _KERAS_FACTOR, "l2": _KERAS_FACTOR},
}


@dataclass(frozen=True)
class KernelRegularizer:
    """A penalty on every kernel: ``l1 * sum(|w|) + l2 * sum(w ** 2)``.

    Args:
        l1: factor of the absolute values, at least 0.
        l2: factor of the squares, at least 0.
    """

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        for field in ("l1", "l2"):
            in_range(f"kernel_regularizer {field}", getattr(self, field), 0.0, float("inf"))
            object.__setattr__(self, field, float(getattr(self, field)))


def as_regularizer(value: Any) -> KernelRegularizer | None:
    """A spec's ``kernel_regularizer``, however it was given: a number is the factor of L2."""
    if value is None or isinstance(value, KernelRegularizer):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return KernelRegularizer(l2=value)
    if isinstance(value, str) and value.lower() in _NAMES:
        return KernelRegularizer(**_NAMES[value.lower()])
    if type(value).__name__ in ("L1", "L2", "L1L2") and hasattr(value, "get_config"):
        value = {key: float(factor) for key, factor in value.get_config().items()}
    elif isinstance(value, Mapping) and value.get("class_name") in ("L1", "L2", "L1L2"):  # as Keras writes one down
        value = value.get("config", {})
    if isinstance(value, Mapping) and set(value) <= {"l1", "l2"}:
        return KernelRegularizer(**value)
    raise TypeError(
        "kernel_regularizer must be None, a number (the factor of L2), {'l1': ..., 'l2': ...}, one of "
        f"{', '.join(map(repr, _NAMES))}, or Keras' L1, L2 or L1L2; got {value!r}. Another one is set on the layers: "
        "layer.kernel_regularizer = ... before the backbone is saved and loaded."
    )
