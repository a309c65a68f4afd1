"""The bottleneck block of ResNet-50 and deeper (https://arxiv.org/abs/1512.03385, figure 5 right)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.blocks.parts import Parts
from resnet_backbones.spec import BlockPlan

EXPANSION = 4


def bottleneck(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """1x1 - 3x3 (strided: "v1.5") - 1x1, plus the shortcut; ``4 * plan.filters`` channels.

    With ``stride_in_1x1`` the stride stands on the first 1x1 convolution, as in the paper.
    """
    first, second = (plan.strides, 1) if net.spec.stride_in_1x1 else (1, plan.strides)
    channels = EXPANSION * plan.filters
    y = net.conv_norm_act(x, plan.filters, 1, plan.name, 1, strides=first)
    y = net.conv_norm_act(y, plan.filters, 3, plan.name, 2, strides=second, dilation=plan.first_dilation)
    y = net.norm(net.conv(y, channels, 1, plan.name, 3), plan.name, 3, zero=True)
    return net.merge(y, net.shortcut(x, plan, channels), plan)
