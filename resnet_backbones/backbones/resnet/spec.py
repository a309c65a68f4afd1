"""Residual networks of stem, stages and blocks. Knows no Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from resnet_backbones._util.checks import MOST_BLOCKS, MOST_TIMES, at_most, in_range, one_of, positive_integers
from resnet_backbones.backbones.spec import BackboneSpec, BlockPlan

STEMS = ("7x7", "deep", "deep_tiered", "3x3")
STEM_POOLS = ("max", "max_zeros", "conv", "none")
SHORTCUTS = ("conv", "avg_pool", "max_pool", "pad")
ATTENTIONS = (None, "se", "eca", "cbam")
ANTIALIASINGS = (None, "blur", "avg")


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(BackboneSpec):
    """Describes a residual network: He et al. 2015, https://arxiv.org/abs/1512.03385, and its later forms.

    Args:
        block: name of a registered block, e.g. ``"basic"``, ``"bottleneck"``.
        depths: number of blocks of each stage.
        widths: width of each stage, before the block's expansion (bottleneck: 4).
        stage_strides: stride of each stage, in its first block; by default 1, then 2.
        stride_in_last: stages stride in their last block (keras.applications' v2), which then opens the next level.
        stem: ``"7x7"``; ``"deep"``, three 3x3 convolutions of widths w, w, 2w; ``"deep_tiered"``, of 3w/4, w, 2w
            (He et al. 2018, https://arxiv.org/abs/1812.01187); ``"3x3"``, one of stride 1, for small images.
        stem_width: w above; the width of a stem of one convolution.
        stem_pool: what follows the stem: ``"max"``, pooling of stride 2; ``"max_zeros"``, the same over a border of
            zeros, which counts where the stem ends without activation (keras.applications' v2); ``"conv"``, a
            convolution of stride 2 in its place; ``"none"``. By default ``"max"``, and ``"none"`` after the stem
            ``"3x3"``.
        shortcut: where a block changes strides or channels: ``"conv"``, a strided 1x1 convolution; ``"avg_pool"``,
            average pooling before it (ResNet-D); ``"max_pool"``, every second pixel where only the stride changes, else
            the convolution (keras.applications' v2); ``"pad"``, every second pixel and channels of zeros, without
            parameters (He et al. 2015, option A, for CIFAR).
        shortcut_kernel: kernel of the projection where it strides, 1, or 3 as in SENet-154.
        groups: groups of a bottleneck's 3x3 convolution (ResNeXt, https://arxiv.org/abs/1611.05431).
        group_width: width of each of them, for a stage of width 64: the 3x3 convolution has
            ``width * group_width // 64 * groups`` channels.
        scale: of the block ``"bottle2neck"``: pieces its channels are split into, each ``group_width * groups`` wide
            for a stage of width 64 (Res2Net, https://arxiv.org/abs/1904.01169).
        reduce_first: divides the channels of a block's first convolution (SENet-154: 2).
        attention: ``"se"`` (https://arxiv.org/abs/1709.01507), ``"eca"`` (https://arxiv.org/abs/1910.03151), ``"cbam"``
            (https://arxiv.org/abs/1807.06521) at the end of each block's residual branch, or ``None``.
        attention_ratio: squeezed channels as a share, for ``"se"`` and ``"cbam"``.
        antialias: ``"blur"`` (https://arxiv.org/abs/1904.11486) or ``"avg"``: strided convolutions and the stem's
            pooling stride in a low-pass filter of their own; or ``None``.
        stride_in_1x1: puts a bottleneck's stride on its first 1x1 convolution (the paper's v1) and not on the
            3x3 (v1.5, the default and timm's).
        conv_bias: convolutions have biases (keras.applications): in v1 all, although batch norm follows, in v2 those
            that no batch norm follows.
        raw_levels: of blocks that normalise first (v2): levels are the plain sums, not normed and activated; the
            backbone's output stays the normed and activated last one.

    The other arguments are :class:`BackboneSpec`'s.

    Raises:
        TypeError: a field is of the wrong type.
        ValueError: a field has a value that is not allowed.

    Example:
        >>> ResNetSpec(block="basic", depths=(2, 2, 2, 2)).replace(activation="silu").activation
        'silu'
    """

    family: ClassVar[str] = "resnet"
    network: ClassVar[Any] = "resnet_backbones.backbones.resnet.network:build"

    block: str = "bottleneck"
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stage_strides: tuple[int, ...] | None = None
    stride_in_last: bool = False
    stem: str = "7x7"
    stem_width: int = 64
    stem_pool: str | None = None
    shortcut: str = "conv"
    shortcut_kernel: int = 1
    groups: int = 1
    group_width: int = 64
    scale: int = 1
    reduce_first: int = 1
    attention: str | None = None
    attention_ratio: float = 1 / 16
    antialias: str | None = None
    stride_in_1x1: bool = False
    conv_bias: bool = False
    raw_levels: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("depths", "widths"):
            object.__setattr__(self, field, positive_integers(field, getattr(self, field)))
        if self.stage_strides is not None:
            object.__setattr__(self, "stage_strides", positive_integers("stage_strides", self.stage_strides, 32))
        at_most("the number of blocks, the sum of depths,", sum(self.depths), MOST_BLOCKS)
        if not len(self.depths) == len(self.widths) == len(self.strides):
            raise ValueError(
                f"depths={self.depths} describes {len(self.depths)} stages and widths={self.widths} "
                f"{len(self.widths)} (stage_strides={self.stage_strides}): give one number of each for every stage."
            )
        self._check_names("block")
        self._check_flags("stride_in_last", "stride_in_1x1", "conv_bias", "raw_levels")
        if self.stride_in_last and min(self.depths) < 2:
            raise ValueError(f"stride_in_last needs stages of two or more blocks; depths={self.depths} has one of one.")
        one_of("stem", self.stem, STEMS)
        one_of("stem_pool", self.pool, STEM_POOLS)
        one_of("shortcut", self.shortcut, SHORTCUTS)
        one_of("shortcut_kernel", self.shortcut_kernel, (1, 3))
        one_of("attention", self.attention, ATTENTIONS)
        one_of("antialias", self.antialias, ANTIALIASINGS)
        for field in ("stem_width", "groups", "group_width"):
            positive_integers(field, (getattr(self, field),))
        for field in ("scale", "reduce_first"):
            positive_integers(field, (getattr(self, field),), MOST_TIMES)
        if self.stem == "deep_tiered" and self.stem_width % 4:
            raise ValueError(f"stem_width of a deep_tiered stem must divide by 4; got {self.stem_width}.")
        in_range("attention_ratio", self.attention_ratio, 0.0, 1.0 + 1e-9)

    # Defaults that hang on other fields are told here and not written into the spec, where `replace` would keep them.
    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each stage: ``stage_strides``, or 1, then 2."""
        return (1,) + (2,) * (len(self.depths) - 1) if self.stage_strides is None else self.stage_strides

    @property
    def pool(self) -> str:
        """What follows the stem: ``stem_pool``, or the stem's own default."""
        return self.stem_pool or ("none" if self.stem == "3x3" else "max")

    def plan(self) -> list[list[BlockPlan]]:
        """What each block of each stage does, strides and dilations as in timm."""
        stem = 1 if self.stem == "3x3" else 2
        start = stem if self.pool == "none" else 2 * stem
        return self.plan_stages(
            self.depths, self.widths, self.strides, start_stride=start, stride_in_last=self.stride_in_last
        )
