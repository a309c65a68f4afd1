"""Checks of the values a spec is given; each error says what is allowed."""

from __future__ import annotations

import math
from typing import Any

from resnet_backbones.errors import did_you_mean

# More than any published network reaches, and little enough to be planned in a moment: the deepest have 10,000 layers
# (Xiao et al. 2018, https://arxiv.org/abs/1806.05393), the widest 28,280 channels (Goyal et al. 2022,
# https://arxiv.org/abs/2202.08360).
MOST_BLOCKS = 10_000
MOST_CHANNELS = 65_536
MOST_STAGES = 64
MOST_TIMES = 64


def one_of(field: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raises ``ValueError`` unless ``value`` is one of ``allowed``; the message gives the nearest of them."""
    if value not in allowed:
        near = did_you_mean(str(value), [item for item in allowed if isinstance(item, str)])
        raise ValueError(f"{field}={value!r} is not one of {', '.join(repr(item) for item in allowed)}.{near}")


def in_range(field: str, value: Any, low: float, high: float) -> None:
    """Raises unless ``value`` is a number with ``low <= value < high``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field} must be a number; got {value!r}.")
    if not low <= value < high:
        raise ValueError(f"{field} must be at least {low} and below {high}; got {value}.")


def positive_integers(field: str, values: Any, most: int = MOST_CHANNELS) -> tuple[int, ...]:
    """``values`` as a tuple; raises unless they are integers of 1 to ``most``, and no more than stages can be."""
    if not isinstance(values, tuple | list) or not values:
        raise TypeError(f"{field} must be a tuple of integers, one for each stage; got {values!r}.")
    at_most(f"the number of entries of {field}", len(values), MOST_STAGES)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{field} must hold integers; got {value!r}.")
        if value < 1:
            raise ValueError(f"{field} must be at least 1; got {value}.")
        at_most(field, value, most)
    return tuple(values)


def at_most(field: str, value: float, most: int) -> None:
    """Raises ``ValueError`` if ``value`` is more than any published network needs."""
    if value > most:
        shown = value if value < 10**15 else f"{float(value):.3g}" if value < 10**300 else "a number beyond 1e300"
        raise ValueError(f"{field} must be at most {most:,}, which no published network reaches; got {shown}.")


def number_or_numbers(field: str, value: Any) -> float | tuple[float, ...]:
    """``value`` as a float or a tuple of floats; raises if it is neither."""
    values = value if isinstance(value, tuple | list) else (value,)
    for item in values:
        if isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
            raise TypeError(f"{field} must be a number or one for each channel; got {value!r}.")
    return tuple(float(item) for item in values) if isinstance(value, tuple | list) else float(value)
