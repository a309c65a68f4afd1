"""The basic block of ResNet v2 (https://arxiv.org/abs/1603.05027, figure 4e) and of wide ResNets."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common.attention import attend
from resnet_backbones.backbones.common.limits import refuse
from resnet_backbones.backbones.spec import BlockPlan


def preact_basic(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """Norm, activation - 3x3 (strided) - norm, activation - 3x3 - attention, plus the shortcut: ``plan.filters``.

    Raises:
        ValueError: the spec asks for something this block has no form of.
    """
    hint = "other blocks have it"
    refuse(net.spec, "preact_basic", "groups", "group_width", "scale", "reduce_first", "antialias", hint=hint)
    activated = net.preactivate(x, plan)
    y = net.conv(
        activated, plan.filters, 3, plan.name, 1, strides=plan.strides, dilation=plan.first_dilation, bias=False
    )
    y = net.act(net.norm(y, plan.name, 2), f"{plan.name}_act2")
    y = attend(net, net.conv(y, plan.filters, 3, plan.name, 2, dilation=plan.dilation), plan.name)
    return net.merge(y, net.shortcut(x, plan, plan.filters, activated=activated), plan, act=False)
