"""Checks of the values a spec is given; each error says what is allowed."""

from __future__ import annotations

import math
from typing import Any


def one_of(field: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raises ``ValueError`` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{field}={value!r} is not one of {', '.join(repr(item) for item in allowed)}.")


def in_range(field: str, value: Any, low: float, high: float) -> None:
    """Raises unless ``value`` is a number with ``low <= value < high``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field} must be a number; got {value!r}.")
    if not low <= value < high:
        raise ValueError(f"{field} must be at least {low} and below {high}; got {value}.")


def positive_integers(field: str, values: Any) -> tuple[int, ...]:
    """``values`` as a tuple; raises unless they are integers of at least 1."""
    if not isinstance(values, tuple | list) or not values:
        raise TypeError(f"{field} must be a tuple of integers, one for each stage; got {values!r}.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{field} must hold integers; got {value!r}.")
        if value < 1:
            raise ValueError(f"{field} must be at least 1; got {value}.")
    return tuple(values)


def number_or_numbers(field: str, value: Any) -> float | tuple[float, ...]:
    """``value`` as a float or a tuple of floats; raises if it is neither."""
    values = value if isinstance(value, tuple | list) else (value,)
    for item in values:
        if isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
            raise TypeError(f"{field} must be a number or one for each channel; got {value!r}.")
    return tuple(float(item) for item in values) if isinstance(value, tuple | list) else float(value)
