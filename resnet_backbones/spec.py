"""Specs: a frozen dataclass says everything about a backbone. Knows no Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnet_backbones.checks import in_range, number_or_numbers, one_of, positive_integers
from resnet_backbones.errors import did_you_mean

STEMS = ("7x7", "deep", "deep_tiered")
SHORTCUTS = ("conv", "avg_pool")
OUTPUT_STRIDES = (8, 16, 32)

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
        return _plain(dataclasses.asdict(self))

    @property
    def channels(self) -> int | None:
        """The number of input channels it is made for; ``None`` when any number will do."""
        return next((len(value) for value in (self.scale, self.offset) if isinstance(value, tuple)), None)


#: Preprocessings by name, for images of 0 to 255.
PREPROCESSINGS = {
    "zero_to_one": Preprocessing(1 / 255.0),
    "minus_one_to_one": Preprocessing(1 / 127.5, -1.0),
    "imagenet": Preprocessing(
        tuple(1 / (255.0 * std) for std in _IMAGENET_STD),
        tuple(-mean / std for mean, std in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True)),
    ),
}


@dataclass(frozen=True)
class BlockPlan:
    """Where one residual block stands and what it must do there.

    Args:
        name: prefix of its layers' names, e.g. ``"stage3_block2"``.
        filters: the stage's width, before the block's own expansion.
        strides: 2 where the block halves height and width, else 1.
        dilation: dilation of its 3x3 convolutions.
        first_dilation: dilation of the first of them (that of the block before, as in timm).
        drop_path_rate: probability that training skips the residual branch for a sample.
    """

    name: str
    filters: int
    strides: int = 1
    dilation: int = 1
    first_dilation: int = 1
    drop_path_rate: float = 0.0


@dataclass(frozen=True)
class ResNetSpec:
    """Describes a residual network: He et al. 2015, https://arxiv.org/abs/1512.03385, and its later forms.

    Args:
        block: name of a registered block; ``"basic"`` and ``"bottleneck"`` are built in.
        depths: number of blocks of each stage.
        widths: width of each stage, before the block's expansion (bottleneck: 4).
        stem: ``"7x7"``; ``"deep"``, three 3x3 convolutions of widths w, w, 2w; ``"deep_tiered"``, of 3w/4, w, 2w
            (He et al. 2018, https://arxiv.org/abs/1812.01187).
        stem_width: w above; the width of the 7x7 convolution.
        shortcut: ``"conv"``, a strided 1x1 convolution, or ``"avg_pool"``, average pooling before it (ResNet-D).
        activation: any activation by name: ``"relu"``, ``"silu"``, ``"hard_swish"`` ...
        stride_in_1x1: puts a bottleneck's stride on its first 1x1 convolution (the paper's v1) and not on the
            3x3 (v1.5, the default and timm's).
        bn_momentum: share of the old batch-norm statistics kept each step.
        bn_epsilon: added to the variance in batch norm.
        zero_init_last: starts each block as its shortcut: the last batch norm's scale is 0 at first
            (Goyal et al. 2017, https://arxiv.org/abs/1706.02677).
        drop_path_rate: stochastic depth of the last block, 0 <= rate < 1; it grows linearly from 0
            (Huang et al. 2016, https://arxiv.org/abs/1603.09382).
        output_stride: 8, 16 or 32: beyond it, stages dilate instead of striding.
        preprocessing: ``None``; one of ``PREPROCESSINGS`` by name; a ``Preprocessing`` or a mapping with its fields.

    Raises:
        TypeError: a field is of the wrong type.
        ValueError: a field has a value that is not allowed.

    Example:
        >>> ResNetSpec(block="basic", depths=(2, 2, 2, 2)).replace(activation="silu").activation
        'silu'
    """

    block: str = "bottleneck"
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: str = "7x7"
    stem_width: int = 64
    shortcut: str = "conv"
    activation: str = "relu"
    stride_in_1x1: bool = False
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    zero_init_last: bool = True
    drop_path_rate: float = 0.0
    output_stride: int = 32
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        for field in ("depths", "widths"):
            object.__setattr__(self, field, positive_integers(field, getattr(self, field)))
        object.__setattr__(self, "preprocessing", _preprocessing(self.preprocessing))
        if len(self.depths) != len(self.widths):
            raise ValueError(
                f"depths={self.depths} describes {len(self.depths)} stages and widths={self.widths} "
                f"{len(self.widths)}: give one number of each for every stage."
            )
        for field in ("block", "activation"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value:
                raise TypeError(f"{field} must be a name, e.g. {_default(field)!r}; got {value!r}.")
        one_of("stem", self.stem, STEMS)
        one_of("shortcut", self.shortcut, SHORTCUTS)
        one_of("output_stride", self.output_stride, OUTPUT_STRIDES)
        for field in ("stride_in_1x1", "zero_init_last"):
            if not isinstance(getattr(self, field), bool):
                raise TypeError(f"{field} must be True or False; got {getattr(self, field)!r}.")
        positive_integers("stem_width", (self.stem_width,))
        if self.stem == "deep_tiered" and self.stem_width % 4:
            raise ValueError(f"stem_width of a deep_tiered stem must divide by 4; got {self.stem_width}.")
        in_range("drop_path_rate", self.drop_path_rate, 0.0, 1.0)
        in_range("bn_momentum", self.bn_momentum, 0.0, 1.0)
        in_range("bn_epsilon", self.bn_epsilon, 0.0, 1.0)

    def replace(self, **changes: Any) -> ResNetSpec:
        """A copy with ``changes``; an unknown field raises ``TypeError`` naming the nearest ones."""
        _check_fields(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON-able data, ``{"family": "resnet", ...}``."""
        return {"family": "resnet", **_plain(dataclasses.asdict(self))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ResNetSpec:
        """The spec that :meth:`to_dict` wrote; fields left out keep their defaults."""
        fields = dict(data)
        family = fields.pop("family", "resnet")
        if family != "resnet":
            raise ValueError(f"a spec of family {family!r} is not a ResNetSpec ('resnet').")
        _check_fields(fields)
        return cls(**fields)

    @property
    def stem_channels(self) -> int:
        """Channels that leave the stem, level P1."""
        return self.stem_width if self.stem == "7x7" else 2 * self.stem_width

    def level_strides(self) -> dict[str, int]:
        """Stride of each level: ``{"P1": 2, "P2": 4, ...}``, P1 from the stem, then one for each stage."""
        strides = [2] + [min(2 ** (stage + 2), self.output_stride) for stage in range(len(self.depths))]
        return {f"P{number}": stride for number, stride in enumerate(strides, start=1)}

    def plan(self) -> list[list[BlockPlan]]:
        """What each block of each stage does, strides and dilations as in timm."""
        stages: list[list[BlockPlan]] = []
        last_block = sum(self.depths) - 1
        net_stride, dilation, first_dilation, done = 4, 1, 1, 0
        for stage, (depth, filters) in enumerate(zip(self.depths, self.widths, strict=True), start=1):
            strides = 1 if stage == 1 else 2
            if net_stride * strides > self.output_stride:
                dilation, strides = dilation * strides, 1
            net_stride *= strides
            blocks = []
            for block in range(1, depth + 1):
                rate = self.drop_path_rate * done / last_block if last_block else 0.0
                name = f"stage{stage}_block{block}"
                blocks.append(BlockPlan(name, filters, strides if block == 1 else 1, dilation, first_dilation, rate))
                first_dilation, done = dilation, done + 1
            stages.append(blocks)
        return stages


_FIELDS = {field.name: field for field in dataclasses.fields(ResNetSpec)}


def _default(field: str) -> Any:
    return _FIELDS[field].default


def _check_fields(fields: Mapping[str, Any]) -> None:
    for name in fields:
        if name not in _FIELDS:
            hint = did_you_mean(name, _FIELDS)
            raise TypeError(f"ResNetSpec has no field {name!r}.{hint} Fields: {', '.join(_FIELDS)}.")


def _plain(value: Any) -> Any:
    """Tuples as lists, at any depth, so that a dictionary equals itself after a trip through JSON."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _preprocessing(value: Any) -> Preprocessing | None:
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
