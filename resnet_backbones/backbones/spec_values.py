"""Fields of specs that are more than a number or a name: preprocessing and kernel regularizer. Knows no Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnet_backbones._util.checks import in_range, number_or_numbers, one_of

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """What a backbone does to its input first: ``image * scale + offset``.

    Args:
        scale: one factor, or one for each input channel.
        offset: one summand, or one for each input channel.
    """

    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        for field in ("scale", "offset"):
            object.__setattr__(self, field, number_or_numbers(f"preprocessing {field}", getattr(self, field)))
        lengths = {len(value) for value in (self.scale, self.offset) if isinstance(value, tuple)}
        if len(lengths) > 1:
            raise ValueError(f"preprocessing scale and offset name different numbers of channels: {sorted(lengths)}.")

    def to_dict(self) -> dict[str, Any]:
        """``{"scale": ..., "offset": ...}``, JSON-able."""
        return plain(dataclasses.asdict(self))

    @property
    def channels(self) -> int | None:
        """The number of input channels it is made for; ``None`` when any number will do."""
        return next((len(value) for value in (self.scale, self.offset) if isinstance(value, tuple)), None)


#: Preprocessings by name, for images of 0 to 255.
PREPROCESSINGS = {
    "zero_to_one": Preprocessing(1 / 255.0),
    "minus_one_to_one": Preprocessing(1 / 127.5, -1.0),
    # For images whose channels are blue, green, red: the weights of keras.applications' ResNet v1 come from Caffe.
    "caffe_bgr": Preprocessing(1.0, (-103.939, -116.779, -123.68)),
    "imagenet": Preprocessing(
        tuple(1 / (255.0 * std) for std in _IMAGENET_STD),
        tuple(-mean / std for mean, std in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True)),
    ),
}


def plain(value: Any) -> Any:
    """Tuples as lists, at any depth, so that a dictionary equals itself after a trip through JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def as_preprocessing(value: Any) -> Preprocessing | None:
    """A spec's ``preprocessing``, however it was given."""
    if value is None or isinstance(value, Preprocessing):
        return value
    if isinstance(value, str):
        one_of("preprocessing", value, tuple(PREPROCESSINGS))
        return PREPROCESSINGS[value]
    if isinstance(value, Mapping) and set(value) <= {"scale", "offset"}:
        return Preprocessing(**value)
    raise TypeError(
        f"preprocessing must be None, one of {', '.join(PREPROCESSINGS)}, or {{'scale': ..., 'offset': ...}}; "
        f"got {value!r}."
    )


_KERAS_FACTOR = 0.01  # what Keras takes for "l1" and "l2" given by name
_NAMES = {"l1": {"l1": _KERAS_FACTOR}, "l2": {"l2": _KERAS_FACTOR}, "l1_l2": {"l1": _KERAS_FACTOR, "l2": _KERAS_FACTOR}}


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
