"""The basic block of ResNet-18 and -34: two 3x3 convolutions (https://arxiv.org/abs/1512.03385, figure 5 left)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.blocks.parts import Parts
from resnet_backbones.spec import BlockPlan


def basic(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """3x3 (strided) - 3x3, plus the shortcut; ``plan.filters`` channels."""
    y = net.conv_norm_act(x, plan.filters, 3, plan.name, 1, strides=plan.strides, dilation=plan.first_dilation)
    y = net.conv(y, plan.filters, 3, plan.name, 2, dilation=plan.dilation)
    y = net.norm(y, plan.name, 2, zero=True)
    return net.merge(y, net.shortcut(x, plan, plan.filters), plan)
