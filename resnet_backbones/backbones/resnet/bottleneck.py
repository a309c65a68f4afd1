"""The bottleneck block of ResNet-50 and deeper (https://arxiv.org/abs/1512.03385, figure 5 right) and of ResNeXt."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common.antialias import strided
from resnet_backbones.backbones.common.attention import attend
from resnet_backbones.backbones.spec import BlockPlan

EXPANSION = 4


def bottleneck(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """1x1 - 3x3 (strided: "v1.5"; in groups: ResNeXt) - 1x1 - attention, plus the shortcut.

    It has ``4 * plan.filters`` channels. With ``stride_in_1x1`` the stride stands on the first 1x1 convolution, as in
    the paper.
    """
    spec = net.spec
    channels = EXPANSION * plan.filters
    width = grouped_width(spec, plan)
    first = width // spec.reduce_first
    if spec.stride_in_1x1:
        y = strided(net, x, first, 1, plan, 1)
        y = net.conv_norm_act(y, width, 3, plan.name, 2, dilation=plan.first_dilation, groups=spec.groups)
    else:
        y = net.conv_norm_act(x, first, 1, plan.name, 1)
        y = strided(net, y, width, 3, plan, 2, groups=spec.groups)
    y = net.norm(net.conv(y, channels, 1, plan.name, 3), plan.name, 3, zero=True)
    return net.merge(attend(net, y, plan.name), net.shortcut(x, plan, channels), plan)


def grouped_width(spec: Any, plan: BlockPlan) -> int:
    """Channels of the block's 3x3 convolution: ``group_width`` (for 64 filters) times ``groups``."""
    return max(plan.filters * spec.group_width // 64, 1) * spec.groups
