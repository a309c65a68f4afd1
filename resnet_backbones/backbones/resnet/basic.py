"""The basic block of ResNet-18 and -34: two 3x3 convolutions (https://arxiv.org/abs/1512.03385, figure 5 left)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common.antialias import strided
from resnet_backbones.backbones.common.attention import attend
from resnet_backbones.backbones.common.limits import refuse
from resnet_backbones.backbones.spec import BlockPlan


def basic(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """3x3 (strided) - 3x3 - attention, plus the shortcut; ``plan.filters`` channels.

    Raises:
        ValueError: the spec asks for groups, which this block has none of.
    """
    refuse(net.spec, "basic", "groups", "group_width", hint="the block 'bottleneck' has them")
    y = strided(net, x, plan.filters // net.spec.reduce_first, 3, plan, 1)
    y = net.conv(y, plan.filters, 3, plan.name, 2, dilation=plan.dilation)
    y = attend(net, net.norm(y, plan.name, 2, zero=True), plan.name)
    return net.merge(y, net.shortcut(x, plan, plan.filters), plan)
