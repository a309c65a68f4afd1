"""Checks on the values of a file's metadata, so that a damaged or forged file is an error and nothing worse."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

MOST_OUTPUTS = 64
MOST_AXES = 8
MOST_CLASSES = 100_000
MOST_DETECTIONS = 10_000
LONGEST_NAME = 1_000
LARGEST_SIDE = 1 << 16

_MISSING = object()


class Values:
    """A dictionary of the metadata, read with checks; an error names the place.

    Args:
        values: the dictionary.
        place: where it stands, for messages, e.g. ``"task.nms"``.

    Raises:
        ValueError: ``values`` is no dictionary.
    """

    def __init__(self, values: Any, place: str):
        if not isinstance(values, dict):
            raise ValueError(f"metadata: {place} must be a dictionary, not {_shown(values)}.")
        self.values, self.place = values, place

    def _get(self, key: str, default: Any = _MISSING) -> Any:
        value = self.values.get(key, default)
        if value is _MISSING:
            raise ValueError(f"The metadata lacks {key!r} in {self.place}: export the model again.")
        return value

    def _wrong(self, key: str, wanted: str, value: Any) -> ValueError:
        return ValueError(f"metadata: {self.place}.{key} must be {wanted}, not {_shown(value)}.")

    def inner(self, key: str) -> Values:
        """A dictionary within."""
        return Values(self._get(key), f"{self.place}.{key}")

    def text(self, key: str, choices: Collection[str] | None = None, default: Any = _MISSING) -> Any:
        """A string, one of ``choices`` where given."""
        value = self._get(key, default)
        if value is default:
            return value
        if not isinstance(value, str) or len(value) > LONGEST_NAME:
            raise self._wrong(key, "a short text", value)
        if choices is not None and value not in choices:
            raise self._wrong(key, f"one of {', '.join(choices)}", value)
        return value

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def whole(self, key: str, low: int, high: int, default: Any = _MISSING) -> Any:
        """A whole number from ``low`` to ``high``, both allowed."""
        value = self._get(key, default)
        if value is default:
            return value
        if not is_whole(value, low, high):
            raise self._wrong(key, f"a whole number from {low} to {high}", value)
        return int(value)

    def number(self, key: str, low: float, high: float) -> float:
        """A finite number from ``low`` to ``high``, both allowed."""
        value = self._get(key)
        if not is_number(value, low, high):
            raise self._wrong(key, f"a number from {low:g} to {high:g}", value)
        return float(value)

    def numbers(self, key: str, low: float, high: float, most: int = 64, whole: bool = False) -> list[Any]:
        """One to ``most`` numbers from ``low`` to ``high``."""
        value = self._get(key)
        good = is_whole if whole else is_number
        if not isinstance(value, list) or not 0 < len(value) <= most or not all(good(v, low, high) for v in value):
            kind = "whole numbers" if whole else "numbers"
            raise self._wrong(key, f"1 to {most} {kind} from {low:g} to {high:g}", value)
        return [int(v) if whole else float(v) for v in value]

    def listed(self, key: str, most: int) -> list[Any]:
        """A list of at most ``most`` values of any kind."""
        value = self._get(key)
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(key, f"a list of at most {most}", value)
        return value


def check_metadata(metadata: dict[str, Any]) -> None:
    """Checks what every task has in common: ``input``, ``outputs``, ``class_names`` and the task's name.

    Raises:
        ValueError: a value has another type, or is out of range.
    """
    values = Values(metadata, "metadata")
    values.inner("task").text("name")
    _check_input(values.inner("input"))
    names = [_check_output(output, index) for index, output in enumerate(values.listed("outputs", MOST_OUTPUTS))]
    if len(set(names)) < len(names):
        raise ValueError(f"metadata: outputs must have different names, not {names}.")
    classes = metadata.get("class_names")
    if classes is not None:
        for name in values.listed("class_names", MOST_CLASSES):
            if not isinstance(name, str) or len(name) > LONGEST_NAME:
                raise ValueError(f"metadata: class_names must be short texts, not {_shown(name)}.")


def _check_input(given: Values) -> None:
    given.text("layout", ("NHWC", "NCHW"), default=None)
    given.text("resize", ("stretch", "letterbox"), default=None)
    if given.values.get("shape") is not None:
        shape = given.listed("shape", 8)
        if not shape or not all(size is None or is_whole(size, 1, 1 << 31) for size in shape):
            raise ValueError(f"metadata: input.shape must be whole numbers above 0 or null, not {_shown(shape)}.")
    if (
        given.values.get("network_size") is not None
        and len(given.numbers("network_size", 1, LARGEST_SIDE, 2, True)) < 2
    ):
        raise ValueError("metadata: input.network_size must be height and width.")
    for key in ("scale", "offset"):
        value = given.values.get(key, 0.0)
        for number in value if isinstance(value, list) and 0 < len(value) <= LARGEST_SIDE else [value]:
            if not is_number(number, -1e30, 1e30):
                raise ValueError(f"metadata: input.{key} must be a number or one a channel, not {_shown(value)}.")


def _check_output(output: Any, index: int) -> str:
    values = Values(output, f"outputs[{index}]")
    name = values.text("name")
    _check_parts(values, 0)
    return str(name)


def _check_parts(values: Values, depth: int) -> None:
    """What an output joins: names, and what is joined of names itself."""
    parts = values.listed("parts", MOST_OUTPUTS)
    values.whole("axis", -8, 8, default=None)
    for index, part in enumerate(parts):
        if isinstance(part, dict) and depth < MOST_AXES:
            _check_parts(Values(part, f"{values.place}.parts[{index}]"), depth + 1)
        elif not isinstance(part, str) or len(part) > LONGEST_NAME:
            parts = []
    if not parts:
        shown = _shown(values.values["parts"])
        raise ValueError(f"metadata: {values.place}.parts must be names of the file's outputs, not {shown}.")


def is_whole(value: Any, low: float, high: float) -> bool:
    """Whether ``value`` is a whole number (and no bool) from ``low`` to ``high``; JSON may write it as 8.0."""
    if isinstance(value, float) and not value.is_integer():
        return False
    return is_number(value, low, high)


def is_number(value: Any, low: float, high: float) -> bool:
    """Whether ``value`` is a finite number (and no bool) from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return low <= value <= high and (isinstance(value, int) or math.isfinite(value))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
