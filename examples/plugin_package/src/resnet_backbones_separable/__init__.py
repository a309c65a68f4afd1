"""ResNets of depthwise separable convolutions: an example of a plug-in for resnet-backbones.

Source: the block follows Howard et al. 2017, https://arxiv.org/abs/1704.04861, inside ResNet's basic block,
https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

from typing import Any

import resnet_backbones as rb


@rb.register_block("separable_basic", expansion=1)
def separable_basic(net: Any, x: Any, plan: Any) -> Any:
    """Two 3x3 depthwise convolutions, a 1x1 convolution behind each, plus the shortcut; ``plan.filters`` channels.

    Args:
        net: makes the layers (``resnet_backbones.backbones.builder.Parts``).
        x: (batch, height, width, channels).
        plan: where the block stands: name, width, stride and dilation (``resnet_backbones.backbones.specs.BlockPlan``).
    """
    y = net.depthwise(x, 3, plan.name, 1, strides=plan.strides, dilation=plan.first_dilation)
    y = net.conv_norm_act(y, plan.filters, 1, plan.name, 1)
    y = net.depthwise(y, 3, plan.name, 2, dilation=plan.dilation)
    y = net.norm(net.conv(y, plan.filters, 1, plan.name, 2), plan.name, 2, zero=True)
    return net.merge(y, net.shortcut(x, plan, plan.filters), plan)


PAPER = "Howard et al. 2017, https://arxiv.org/abs/1704.04861"


@rb.register_backbone("sepresnet18", aliases=["sr18"], family="separable", paper=PAPER)
def sepresnet18() -> rb.ResNetSpec:
    """ResNet-18 of depthwise separable convolutions."""
    return rb.ResNetSpec(block="separable_basic", depths=(2, 2, 2, 2), stem="deep", stem_width=16)


@rb.register_backbone("sepresnet34", family="separable", paper=PAPER)
def sepresnet34() -> rb.ResNetSpec:
    """ResNet-34 of depthwise separable convolutions."""
    return rb.ResNetSpec(block="separable_basic", depths=(3, 4, 6, 3), stem="deep", stem_width=16)
