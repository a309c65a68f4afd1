"""The bottleneck block of ResNet v2 (https://arxiv.org/abs/1603.05027)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common.attention import attend
from resnet_backbones.backbones.common.limits import refuse
from resnet_backbones.backbones.resnet.bottleneck import EXPANSION, grouped_width
from resnet_backbones.backbones.spec import BlockPlan


def preact_bottleneck(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """1x1 - 3x3 (strided) - 1x1, each behind norm and activation - attention, plus the shortcut; ``4 * plan.filters``.

    With ``stride_in_1x1`` the stride stands on the first 1x1 convolution.

    Raises:
        ValueError: the spec asks for something this block has no form of.
    """
    spec = net.spec
    refuse(net.spec, "preact_bottleneck", "scale", "reduce_first", "antialias", hint="other blocks have it")
    first, second = (plan.strides, 1) if spec.stride_in_1x1 else (1, plan.strides)
    channels, width = EXPANSION * plan.filters, grouped_width(spec, plan)
    activated = net.preactivate(x, plan)
    y = net.conv(activated, width, 1, plan.name, 1, strides=first, bias=False)
    y = net.act(net.norm(y, plan.name, 2), f"{plan.name}_act2")
    options = {"strides": second, "dilation": plan.first_dilation, "groups": spec.groups}
    y = net.conv(y, width, 3, plan.name, 2, bias=False, **options)
    y = net.act(net.norm(y, plan.name, 3), f"{plan.name}_act3")
    y = attend(net, net.conv(y, channels, 1, plan.name, 3), plan.name)
    return net.merge(y, net.shortcut(x, plan, channels, activated=activated), plan, act=False)
