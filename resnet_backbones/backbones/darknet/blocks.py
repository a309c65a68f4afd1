"""The blocks of Darknets and cross stage partial networks: none strides, all keep their channels.

Sources: Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767; Wang et al. 2019, https://arxiv.org/abs/1911.11929
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common.attention import squeezed
from resnet_backbones.backbones.common.squeeze_excite import squeeze_excite
from resnet_backbones.backbones.darknet.spec import DarkPlan


def dark(net: Parts, x: Any, plan: DarkPlan) -> Any:
    """1x1 - 3x3, plus ``x``; no activation follows the sum."""
    y = _attend(net, net.conv_norm_act(x, plan.hidden, 1, plan.name, 1), plan)
    y = net.conv(y, plan.filters, 3, plan.name, 2, dilation=plan.dilation, groups=plan.groups)
    return _end(net, y, x, plan)


def edge(net: Parts, x: Any, plan: DarkPlan) -> Any:
    """3x3 - 1x1, plus ``x``; no activation follows the sum."""
    y = net.conv_norm_act(x, plan.hidden, 3, plan.name, 1, dilation=plan.dilation, groups=plan.groups)
    return _end(net, net.conv(_attend(net, y, plan), plan.filters, 1, plan.name, 2), x, plan)


def bottleneck(net: Parts, x: Any, plan: DarkPlan) -> Any:
    """1x1 - 3x3 - 1x1, plus ``x``, then the activation."""
    y = net.conv_norm_act(x, plan.hidden, 1, plan.name, 1)
    y = net.conv_norm_act(y, plan.hidden, 3, plan.name, 2, dilation=plan.dilation, groups=plan.groups)
    y = net.conv(_attend(net, y, plan), plan.filters, 1, plan.name, 3)
    return net.merge(net.norm(y, plan.name, 3, zero=True), x, plan)


def _end(net: Parts, y: Any, x: Any, plan: DarkPlan) -> Any:
    """Batch norm and activation of the second convolution, then the sum."""
    y = net.act(net.norm(y, plan.name, 2, zero=True), f"{plan.name}_act2")
    return net.merge(y, x, plan, act=False)


def _attend(net: Parts, y: Any, plan: DarkPlan) -> Any:
    if net.spec.attention is None:
        return y
    return squeeze_excite(net, y, plan.name, squeezed(y.shape[-1], net.spec.attention_ratio, 8))


BLOCKS = {"dark": dark, "bottleneck": bottleneck, "edge": edge}
