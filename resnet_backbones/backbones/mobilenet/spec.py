"""Networks of inverted residuals: MobileNetV2, MobileNetV3, EfficientNet-Lite. Knows no Keras."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from resnet_backbones._util.checks import (
    MOST_BLOCKS,
    MOST_STAGES,
    MOST_TIMES,
    at_most,
    in_range,
    one_of,
    positive_integers,
)
from resnet_backbones.backbones.spec import BackboneSpec, BlockPlan

BLOCKS = ("inverted", "separable", "conv")
HEADS = ("conv", "pooled")
DIVISOR = 8


def round_channels(channels: float) -> int:
    """The multiple of 8 nearest to ``channels``, at least 8, and never less than nine tenths of it.

    Source: the rule of the MobileNet papers' code, https://arxiv.org/abs/1801.04381
    """
    rounded = max(DIVISOR, int(channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * channels else rounded


@dataclass(frozen=True)
class MobileStage:
    """One stage: blocks that differ in their expansion only; the first of them strides.

    Args:
        block: ``"inverted"``, 1x1 convolution to more channels, depthwise convolution, 1x1 convolution to few;
            ``"separable"``, the same without the first; ``"conv"``, a convolution, batch norm and activation.
        channels: what each block gives, before the spec's ``width_multiplier``.
        expansions: a block's wide channels as a multiple of its input's, one number for each block.
        kernel: size of the depthwise convolution (of the only one in a ``"conv"``).
        stride: of the first block, 1 or 2.
        se_ratio: squeezed channels of squeeze-and-excitation as a share of the wide ones; 0: there is none.
        activation: in place of the spec's.

    Raises:
        TypeError: a field is of the wrong type.
        ValueError: a field has a value that is not allowed.

    Example:
        >>> MobileStage("inverted", 40, (4, 6, 6), kernel=5, stride=2, se_ratio=0.25)
    """

    block: str
    channels: int
    expansions: tuple[float, ...] = (1.0,)
    kernel: int = 3
    stride: int = 1
    se_ratio: float = 0.0
    activation: str | None = None

    def __post_init__(self) -> None:
        one_of("block of a stage", self.block, BLOCKS)
        positive_integers("channels of a stage", (self.channels,))
        one_of("kernel of a stage", self.kernel, (1, 3, 5, 7))
        one_of("stride of a stage", self.stride, (1, 2))
        in_range("se_ratio of a stage", self.se_ratio, 0.0, 1.0 + 1e-9)
        if self.activation is not None and (not isinstance(self.activation, str) or not self.activation):
            raise TypeError(f"activation of a stage must be a name or None, for the spec's; got {self.activation!r}.")
        if not isinstance(self.expansions, tuple | list) or not self.expansions:
            raise TypeError(f"expansions of a stage must be numbers, one for each block; got {self.expansions!r}.")
        at_most("the number of blocks of a stage", len(self.expansions), MOST_BLOCKS)
        for expansion in self.expansions:
            in_range("expansions of a stage", expansion, 1e-6, MOST_TIMES + 1e-9)
        object.__setattr__(self, "expansions", tuple(float(expansion) for expansion in self.expansions))
        if self.block != "inverted" and set(self.expansions) != {1.0}:
            raise ValueError(f"only 'inverted' blocks expand; {self.block!r} takes expansions of 1: {self.expansions}.")


@dataclass(frozen=True)
class MobilePlan(BlockPlan):
    """A :class:`BlockPlan` and what else such a block must know; ``filters`` are its output channels.

    Args:
        kind: a name of ``BLOCKS``.
        kernel: size of its depthwise convolution.
        expanded: channels of its depthwise convolution.
        squeezed: squeezed channels of its squeeze-and-excitation; 0: there is none.
        activation: by name.
    """

    kind: str = "inverted"
    kernel: int = 3
    expanded: int = 1
    squeezed: int = 0
    activation: str = "relu6"


# MobileNetV2's, https://arxiv.org/abs/1801.04381, table 2.
MOBILENET_V2_STAGES = (
    MobileStage("separable", 16),
    MobileStage("inverted", 24, (6,) * 2, stride=2),
    MobileStage("inverted", 32, (6,) * 3, stride=2),
    MobileStage("inverted", 64, (6,) * 4, stride=2),
    MobileStage("inverted", 96, (6,) * 3),
    MobileStage("inverted", 160, (6,) * 3, stride=2),
    MobileStage("inverted", 320, (6,)),
)


@dataclass(frozen=True, kw_only=True)
class MobileNetSpec(BackboneSpec):
    """Describes a network of inverted residuals, by default MobileNetV2.

    Level P1 has stride 2; each level is the end of the last stage of its stride. Inverted residuals end without an
    activation, so levels may be negative.

    Args:
        stages: :class:`MobileStage` each, or mappings with its fields.
        stem_width: channels of the first convolution, 3x3 of stride 2.
        width_multiplier: scales channels, rounded to multiples of 8.
        depth_multiplier: scales the number of blocks of each stage, rounded up; more blocks are like the stage's last.
        scale_ends: the multipliers scale the stem and the first and last stage's blocks too, and above 1 the head.
        gate: activation at the end of squeeze-and-excitation.
        head: what classifiers have after the last level: ``"conv"``, a 1x1 convolution, batch norm, activation
            (MobileNetV2), or ``"pooled"``, global pooling, a 1x1 convolution with bias, activation (MobileNetV3).
        head_width: channels of the head.
        include_head: the backbone's output comes from the head. Levels stay the same. Without it the head's weights
            of other libraries' models are left out.

    The other arguments are :class:`BackboneSpec`'s. ``zero_init_last`` concerns blocks with a shortcut only.

    Raises:
        TypeError: a field is of the wrong type.
        ValueError: a field has a value that is not allowed.

    Example:
        >>> [[plan.expanded for plan in stage] for stage in MobileNetSpec(width_multiplier=0.5).plan()][:2]
        [[16], [48, 96]]

    Source: Sandler et al. 2018, https://arxiv.org/abs/1801.04381; Howard et al. 2019, https://arxiv.org/abs/1905.02244
    """

    family: ClassVar[str] = "mobilenet"
    network: ClassVar[Any] = "resnet_backbones.backbones.mobilenet.network:build"

    activation: str = "relu6"
    zero_init_last: bool = False
    stages: tuple[MobileStage, ...] = MOBILENET_V2_STAGES
    stem_width: int = 32
    width_multiplier: float = 1.0
    depth_multiplier: float = 1.0
    scale_ends: bool = True
    gate: str = "hard_sigmoid"
    head: str = "conv"
    head_width: int = 1280
    include_head: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.stages, tuple | list) or not self.stages:
            raise TypeError(f"stages must be a tuple of MobileStage; got {self.stages!r}.")
        at_most("the number of stages", len(self.stages), MOST_STAGES)
        object.__setattr__(self, "stages", tuple(_stage(stage) for stage in self.stages))
        for field in ("stem_width", "head_width"):
            positive_integers(field, (getattr(self, field),))
        for field in ("width_multiplier", "depth_multiplier"):
            in_range(field, getattr(self, field), 1e-6, MOST_TIMES + 1e-9)
        blocks = (math.ceil(len(stage.expansions) * self.depth_multiplier) for stage in self.stages)
        at_most("the number of blocks, depth_multiplier included,", sum(blocks), MOST_BLOCKS)
        one_of("head", self.head, HEADS)
        self._check_names("gate")
        self._check_flags("scale_ends", "include_head")

    @property
    def stem_channels(self) -> int:
        """Channels of the first convolution."""
        return round_channels(self.stem_width * self.width_multiplier) if self.scale_ends else self.stem_width

    @property
    def head_channels(self) -> int:
        """Channels of the head."""
        widens = self.scale_ends and self.width_multiplier > 1
        return round_channels(self.head_width * self.width_multiplier) if widens else self.head_width

    def plan(self) -> list[list[MobilePlan]]:
        """What each block of each stage does."""
        expansions = [self._expansions(number) for number in range(len(self.stages))]
        plans = self.plan_stages(
            [len(numbers) for numbers in expansions],
            [round_channels(stage.channels * self.width_multiplier) for stage in self.stages],
            [stage.stride for stage in self.stages],
            start_stride=2,
        )
        before = self.stem_channels
        full = []
        for stage, numbers, blocks in zip(self.stages, expansions, plans, strict=True):
            full.append([])
            for block, expansion in zip(blocks, numbers, strict=True):
                expanded = round_channels(before * expansion) if stage.block == "inverted" else before
                full[-1].append(
                    MobilePlan(
                        **vars(block),
                        kind=stage.block,
                        kernel=stage.kernel,
                        expanded=expanded,
                        squeezed=round_channels(expanded * stage.se_ratio) if stage.se_ratio else 0,
                        activation=stage.activation or self.activation,
                    )
                )
                before = block.filters
        return full

    def _expansions(self, number: int) -> tuple[float, ...]:
        """Those of a stage's blocks, ``depth_multiplier`` applied."""
        expansions = self.stages[number].expansions
        if not self.scale_ends and number in (0, len(self.stages) - 1):
            return expansions
        count = math.ceil(len(expansions) * self.depth_multiplier)
        return expansions[:count] + expansions[-1:] * (count - len(expansions))


def _stage(stage: Any) -> MobileStage:
    if isinstance(stage, MobileStage):
        return stage
    if isinstance(stage, Mapping) and set(stage) <= {field.name for field in dataclasses.fields(MobileStage)}:
        return MobileStage(**stage)
    raise TypeError(
        f"a stage is MobileStage(block, channels, expansions, ...) or a mapping with its fields "
        f"({', '.join(field.name for field in dataclasses.fields(MobileStage))}); got {stage!r}."
    )
