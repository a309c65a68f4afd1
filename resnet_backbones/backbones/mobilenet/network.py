"""Networks of inverted residuals: stem, stages, perhaps a head (https://arxiv.org/abs/1801.04381)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.mobilenet.blocks import BLOCKS


def build(net: Parts, x: Any) -> tuple[dict[str, str], Any]:
    """A level ends where the next stage strides; P1 is at stride 2.

    Args:
        net: what adds the layers.
        x: the image, (batch, height, width, channels).

    Returns:
        Level -> name of the layer it ends in, and the last feature map, or the head's if the spec includes it.
    """
    spec = net.spec
    x = net.conv_norm_act(x, spec.stem_channels, 3, "stem", 1, strides=2)
    levels: dict[str, str] = {}
    # A dilated stage strides no more, but is a level of its own all the same.
    for stage, plans in zip(spec.stages, spec.plan(), strict=True):
        if stage.stride > 1:
            levels[f"P{len(levels) + 1}"] = net.layer_name(x)
        for plan in plans:
            x = BLOCKS[plan.kind](net, x, plan)
    levels[f"P{len(levels) + 1}"] = net.layer_name(x)
    return levels, HEADS[spec.head](net, x) if spec.include_head else x


def conv_head(net: Parts, x: Any) -> Any:
    """A 1x1 convolution, batch norm, activation."""
    return net.conv_norm_act(x, net.spec.head_channels, 1, "head", "")


def pooled_head(net: Parts, x: Any) -> Any:
    """Global pooling, a 1x1 convolution with bias, activation: (batch, 1, 1, channels)."""
    x = net.global_pool(x, "head_pool")
    x = net.conv(x, net.spec.head_channels, 1, "head", "", bias=True)
    return net.act(x, "head_act")


HEADS = {"conv": conv_head, "pooled": pooled_head}
