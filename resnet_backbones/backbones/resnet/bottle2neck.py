"""Res2Net's block: a bottleneck whose 3x3 convolution is a hierarchy of smaller ones (https://arxiv.org/abs/1904.01169)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common.attention import attend
from resnet_backbones.backbones.common.limits import refuse
from resnet_backbones.backbones.resnet.bottleneck import EXPANSION, grouped_width
from resnet_backbones.backbones.spec import BlockPlan


def bottle2neck(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """1x1 - ``scale`` pieces of the channels - 1x1 - attention, plus the shortcut; ``4 * plan.filters`` channels.

    All pieces but the last pass a 3x3 convolution each, and in blocks that keep their shape each is first added the
    result of the one before. The last is handed on, in blocks that change shape averaged over 3x3 pixels.

    Raises:
        ValueError: the spec asks for something this block has no form of.
    """
    refuse(net.spec, "bottle2neck", "antialias", "reduce_first", "stride_in_1x1", hint="the block 'bottleneck' has it")
    spec = net.spec
    channels = EXPANSION * plan.filters
    changes_shape = plan.strides > 1 or x.shape[-1] != channels
    width = grouped_width(spec, plan)
    y = net.conv_norm_act(x, width * spec.scale, 1, plan.name, 1)
    pieces = [
        net.channel_slice(y, f"{plan.name}_piece{number}", start, start + width) if spec.scale > 1 else y
        for number, start in enumerate(range(0, width * spec.scale, width), start=1)
    ]
    done: list[Any] = []
    for number, piece in enumerate(pieces[: max(spec.scale - 1, 1)], start=1):
        if done and not changes_shape:
            piece = net.sum([done[-1], piece], f"{plan.name}_sum2_{number}")
        piece = net.conv_norm_act(
            piece,
            width,
            3,
            plan.name,
            f"2_{number}",
            strides=plan.strides,
            dilation=plan.first_dilation,
            groups=spec.groups,
        )
        done.append(piece)
    if spec.scale > 1:
        done.append(_averaged(net, pieces[-1], plan) if changes_shape else pieces[-1])
    y = net.concat(done, f"{plan.name}_concat") if len(done) > 1 else done[0]
    y = net.norm(net.conv(y, channels, 1, plan.name, 3), plan.name, 3, zero=True)
    return net.merge(attend(net, y, plan.name), net.shortcut(x, plan, channels), plan)


def _averaged(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """3x3 average pooling in which the zeros around the map take part, as in the weights that were published."""
    x = net.pad(x, f"{plan.name}_pool_pad", ((1, 1), (1, 1)))
    return net.avg_pool(x, f"{plan.name}_pool", 3, plan.strides)
