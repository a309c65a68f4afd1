"""Darknets and cross stage partial networks (CSPNets). Knows no Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from resnet_backbones._util.checks import MOST_STAGES, MOST_TIMES, at_most, in_range, one_of, positive_integers
from resnet_backbones.backbones.spec import BackboneSpec, BlockPlan

STAGES = ("plain", "csp", "cs3")
BLOCKS = ("dark", "bottleneck", "edge")
DOWNS = ("conv", "avg_pool")
POOLS = ("max", "none")
ATTENTIONS = (None, "se")


@dataclass(frozen=True)
class DarkPlan(BlockPlan):
    """A :class:`BlockPlan` and what else such a block must know; no block strides, its stage does that before.

    Args:
        hidden: channels inside the block.
        groups: groups of its 3x3 convolution.
    """

    hidden: int = 1
    groups: int = 1


@dataclass(frozen=True)
class DarkStagePlan:
    """What a stage does before, beside and after its blocks.

    Args:
        name: prefix of its layers' names, e.g. ``"stage3"``.
        width: channels it gives.
        strides: of the convolution (or pooling) before the blocks.
        dilation: of the blocks' 3x3 convolutions.
        first_dilation: of the convolution before them.
        groups: of that convolution.
        expanded: channels before they are split between the blocks and the way past them.
        blocks: the blocks.
    """

    name: str
    width: int
    strides: int
    dilation: int
    first_dilation: int
    groups: int
    expanded: int
    blocks: tuple[DarkPlan, ...]


@dataclass(frozen=True, kw_only=True)
class DarkNetSpec(BackboneSpec):
    """Describes a Darknet or a cross stage partial network, by default Darknet-53.

    Each stage strides first, then come its blocks. ``"plain"`` stages are that and no more. ``"csp"`` stages widen by a
    1x1 convolution, send half of the channels through the blocks and half past them, and join both; ``"cs3"`` is the
    same without a convolution between blocks and joint.

    Args:
        stage: ``"plain"``, ``"csp"`` or ``"cs3"``.
        block: ``"dark"``, 1x1 - 3x3; ``"bottleneck"``, 1x1 - 3x3 - 1x1; ``"edge"``, 3x3 - 1x1.
        depths: number of blocks of each stage.
        widths: channels each stage gives.
        stage_strides: stride of each stage; by default 2.
        stem_widths: channels of each convolution of the stem.
        stem_kernel: their kernel, 3 or 7; or 6, one convolution of stride 2 padded by 2 on each side (the "focus" stem
            of YOLOv5).
        stem_stride: of the first of them, 1 or 2.
        stem_pool: ``"max"``, 3x3 pooling of stride 2 after the stem, or ``"none"``.
        down: how a stage strides: ``"conv"``, a 3x3 convolution, or ``"avg_pool"``, 2x2 means (an odd row or column
            left over is dropped) and a 1x1 convolution.
        early_growth: the 3x3 convolution at the start of a ``"csp"`` stage gives the stage's channels already, not
            those that came in.
        linear_expansion: no activation follows the 1x1 convolution that widens.
        expand_ratio: channels that it gives, as a share of the stage's; one number, or one for each stage.
        block_ratio: channels of the blocks as a share of the stage's; one number, or one for each stage.
        bottleneck_ratio: channels inside a block as a share of the block's; one number, or one for each stage.
        groups: groups of the 3x3 convolutions; one number, or one for each stage.
        attention: ``"se"``, squeeze-and-excitation inside each block, or ``None``.
        attention_ratio: squeezed channels as a share.

    The other arguments are :class:`BackboneSpec`'s.

    Raises:
        TypeError: a field is of the wrong type.
        ValueError: a field has a value that is not allowed.

    Example:
        >>> DarkNetSpec().replace(stage="csp", block_ratio=0.5, bottleneck_ratio=1.0).plan()[0].blocks[0].filters
        32

    Source: Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767; Wang et al. 2019, https://arxiv.org/abs/1911.11929
    """

    family: ClassVar[str] = "darknet"
    network: ClassVar[Any] = "resnet_backbones.backbones.darknet.network:build"

    activation: str = "leaky_relu_001"
    stage: str = "plain"
    block: str = "dark"
    depths: tuple[int, ...] = (1, 2, 8, 8, 4)
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    stage_strides: tuple[int, ...] | None = None
    stem_widths: tuple[int, ...] = (32,)
    stem_kernel: int = 3
    stem_stride: int = 1
    stem_pool: str = "none"
    down: str = "conv"
    early_growth: bool = False
    linear_expansion: bool = False
    expand_ratio: float | tuple[float, ...] = 1.0
    block_ratio: float | tuple[float, ...] = 1.0
    bottleneck_ratio: float | tuple[float, ...] = 0.5
    groups: int | tuple[int, ...] = 1
    attention: str | None = None
    attention_ratio: float = 1 / 16

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("depths", "widths", "stem_widths"):
            object.__setattr__(self, field, positive_integers(field, getattr(self, field)))
        if self.stage_strides is not None:
            object.__setattr__(self, "stage_strides", positive_integers("stage_strides", self.stage_strides))
        if not len(self.depths) == len(self.widths) == len(self.strides):
            raise ValueError(
                f"depths={self.depths}, widths={self.widths} and stage_strides={self.stage_strides} describe different "
                "numbers of stages: give one number of each for every stage."
            )
        for stride in self.strides:
            one_of("stage_strides", stride, (1, 2))
        one_of("stage", self.stage, STAGES)
        one_of("block", self.block, BLOCKS)
        one_of("stem_kernel", self.stem_kernel, (3, 6, 7))
        one_of("stem_stride", self.stem_stride, (1, 2))
        if self.stem_kernel == 6 and (len(self.stem_widths), self.stem_stride) != (1, 2):
            raise ValueError(
                "stem_kernel=6 takes one convolution of stride 2: stem_widths of one number, stem_stride=2."
            )
        one_of("stem_pool", self.stem_pool, POOLS)
        one_of("down", self.down, DOWNS)
        one_of("attention", self.attention, ATTENTIONS)
        self._check_flags("early_growth", "linear_expansion")
        in_range("attention_ratio", self.attention_ratio, 0.0, 1.0 + 1e-9)
        for field in ("expand_ratio", "block_ratio", "bottleneck_ratio", "groups"):
            self._check_each(field)
        for stage in self.plan():
            self._check_fits(stage)

    def _check_each(self, field: str) -> None:
        """One number, or one for each stage."""
        value = getattr(self, field)
        if isinstance(value, tuple | list):
            object.__setattr__(self, field, tuple(value))
            at_most(f"the number of entries of {field}", len(value), MOST_STAGES)
            if len(value) != len(self.depths):
                raise ValueError(f"{field}={tuple(value)} has {len(value)} numbers for {len(self.depths)} stages.")
        for number in value if isinstance(value, tuple | list) else (value,):
            if field == "groups":
                positive_integers(field, (number,))
            else:
                in_range(field, number, 1e-6, MOST_TIMES + 1e-9)

    def _check_fits(self, stage: DarkStagePlan) -> None:
        """The blocks add what comes in to what they give, so both have the same channels."""
        given = stage.blocks[0].filters
        comes = stage.width if self.stage == "plain" else stage.expanded // 2
        if given != comes or stage.expanded % 2:
            fix = "block_ratio=1" if self.stage == "plain" else "block_ratio half of expand_ratio, and even channels"
            raise ValueError(
                f"the blocks of {stage.name} would give {given} channels and get {comes}, so they could not be added: "
                f"a {self.stage!r} stage takes {fix}."
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each stage: ``stage_strides``, or 2 each."""
        return (2,) * len(self.depths) if self.stage_strides is None else self.stage_strides

    def each(self, field: str) -> tuple[Any, ...]:
        """A field that is one number or one for each stage, as one for each stage."""
        value = getattr(self, field)
        return value if isinstance(value, tuple) else (value,) * len(self.depths)

    def plan(self) -> list[DarkStagePlan]:
        """What each stage and each of its blocks does."""
        fields = (self.each(field) for field in ("expand_ratio", "block_ratio", "bottleneck_ratio", "groups"))
        start = self.stem_stride * (2 if self.stem_pool == "max" else 1)
        stages = self.plan_stages(self.depths, self.widths, self.strides, start_stride=start)
        return [self._stage(blocks, *numbers) for blocks, *numbers in zip(stages, *fields, strict=True)]

    def _stage(
        self, plans: list[BlockPlan], expand: float, share: float, bottleneck: float, groups: int
    ) -> DarkStagePlan:
        first = plans[0]
        filters = round(first.filters * share)
        own = {"filters": filters, "strides": 1, "hidden": round(filters * bottleneck), "groups": groups}
        blocks = tuple(DarkPlan(**{**vars(plan), **own, "first_dilation": plan.dilation}) for plan in plans)
        return DarkStagePlan(
            *(f"stage{first.stage}", first.filters, first.strides, first.dilation, first.first_dilation),
            *(groups, round(first.filters * expand), blocks),
        )
