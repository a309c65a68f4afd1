"""RegNets: residual networks whose widths and depths follow from four numbers. Knows no Keras."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

from resnet_backbones._util.checks import MOST_BLOCKS, MOST_CHANNELS, MOST_TIMES, at_most, in_range, positive_integers
from resnet_backbones.backbones.spec import BackboneSpec, BlockPlan

QUANTUM = 8


@dataclass(frozen=True)
class RegNetPlan(BlockPlan):
    """A :class:`BlockPlan` and what else a RegNet's block must know.

    Args:
        hidden: channels of its 3x3 convolution.
        groups: groups of its 3x3 convolution.
    """

    hidden: int = 1
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class RegNetSpec(BackboneSpec):
    """Describes a RegNet: Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678.

    Block ``i`` would have the width ``w0 + wa * i``. It gets the nearest power of ``wm``, times ``w0``, rounded to
    multiples of 8; blocks of the same width are a stage, and each stage starts with stride 2. The defaults are
    RegNetX-200MF's.

    Args:
        depth: number of blocks.
        w0: width of the first block, a multiple of 8.
        wa: how much the width grows with each block.
        wm: factor between the widths of two stages.
        group_width: channels of each group of the 3x3 convolutions; widths are rounded to whole groups.
        round_half_up: how a width halfway between two numbers of groups is rounded: up, as torchvision does, or to
            the even number of groups, as the paper's code and timm do.
        bottleneck_ratio: channels of the 3x3 convolution as a share of the block's.
        se_ratio: squeezed channels of squeeze-and-excitation as a share of the channels that enter the block
            (RegNetY: 0.25); 0: there is none.
        stem_width: channels of the first convolution, 3x3 of stride 2.

    The other arguments are :class:`BackboneSpec`'s.

    Raises:
        TypeError: a field is of the wrong type.
        ValueError: a field has a value that is not allowed.

    Example:
        >>> spec = RegNetSpec(depth=13, w0=24, wa=36.44, wm=2.49, group_width=8)
        >>> spec.widths, spec.depths
        ((24, 56, 152, 368), (1, 1, 4, 7))
    """

    family: ClassVar[str] = "regnet"
    network: ClassVar[Any] = "resnet_backbones.backbones.regnet.network:build"

    depth: int = 13
    w0: int = 24
    wa: float = 36.44
    wm: float = 2.49
    group_width: int = 8
    round_half_up: bool = False
    bottleneck_ratio: float = 1.0
    se_ratio: float = 0.0
    stem_width: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_integers("depth", (self.depth,), MOST_BLOCKS)
        for field in ("w0", "group_width", "stem_width"):
            positive_integers(field, (getattr(self, field),))
        if self.w0 % QUANTUM:
            raise ValueError(f"w0 must be a multiple of {QUANTUM}; got {self.w0}.")
        in_range("wa", self.wa, 0.0, MOST_CHANNELS)
        in_range("wm", self.wm, 1.0, MOST_TIMES)
        at_most("the width of the last block, w0 + wa * depth,", self.w0 + self.wa * self.depth, MOST_CHANNELS)
        if self.wm == 1:
            raise ValueError("wm must be more than 1: it is the factor between the widths of two stages.")
        self._check_flags("round_half_up")
        in_range("bottleneck_ratio", self.bottleneck_ratio, 1e-6, MOST_TIMES + 1e-9)
        in_range("se_ratio", self.se_ratio, 0.0, 1.0 + 1e-9)

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each stage."""
        return tuple(width for width, _, _, _ in self._stages())

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of blocks of each stage."""
        return tuple(depth for _, depth, _, _ in self._stages())

    def plan(self) -> list[list[RegNetPlan]]:
        """What each block of each stage does."""
        stages = self.plan_stages(self.depths, self.widths, (2,) * len(self.depths), start_stride=2)
        return [
            [RegNetPlan(**vars(block), hidden=hidden, groups=groups) for block in stage]
            for stage, (_, _, hidden, groups) in zip(stages, self._stages(), strict=True)
        ]

    def _stages(self) -> list[tuple[int, int, int, int]]:
        """For each stage: width, blocks, channels of the 3x3 convolutions, their groups."""
        blocks = (self._width(self.w0 + self.wa * block) for block in range(self.depth))
        stages = []
        for width, members in groupby(blocks):
            hidden = int(width * self.bottleneck_ratio)
            group_width = min(self.group_width, hidden)
            hidden = self._whole_groups(hidden, group_width)
            stages.append((int(hidden / self.bottleneck_ratio), len(list(members)), hidden, hidden // group_width))
        return stages

    def _width(self, width: float) -> int:
        """The nearest ``w0 * wm ** n``, rounded to a multiple of 8."""
        power = round(math.log(width / self.w0) / math.log(self.wm))
        return round(self.w0 * self.wm**power / QUANTUM) * QUANTUM

    def _whole_groups(self, channels: int, group_width: int) -> int:
        if not self.round_half_up:
            return max(1, round(channels / group_width)) * group_width
        rounded = (2 * channels + group_width) // (2 * group_width) * group_width
        return rounded + group_width if rounded < 0.9 * channels else rounded  # torchvision's rule has this too
