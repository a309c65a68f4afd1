"""RegNets: a convolution of stride 2, then stages (https://arxiv.org/abs/2003.13678)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.regnet.block import regnet_block


def build(net: Parts, x: Any) -> tuple[dict[str, str], Any]:
    """Level P1 leaves the stem, P2, P3 ... end the stages.

    Args:
        net: what adds the layers.
        x: the image, (batch, height, width, channels).

    Returns:
        Level -> name of the layer it ends in, and the last feature map.
    """
    x = net.conv_norm_act(x, net.spec.stem_width, 3, "stem", 1, strides=2)
    levels = {"P1": net.layer_name(x)}
    for number, stage in enumerate(net.spec.plan(), start=2):
        for plan in stage:
            x = regnet_block(net, x, plan)
        levels[f"P{number}"] = net.layer_name(x)
    return levels, x
