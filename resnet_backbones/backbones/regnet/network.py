"""RegNets: a convolution of stride 2, then stages of one block (https://arxiv.org/abs/2003.13678)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common import squeeze_excite
from resnet_backbones.backbones.regnet.spec import RegNetPlan


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


def regnet_block(net: Parts, x: Any, plan: RegNetPlan) -> Any:
    """1x1 - 3x3 in groups (strided) - squeeze-and-excitation in RegNetY - 1x1, plus the shortcut.

    ``plan.filters`` channels. Unlike elsewhere, the squeezed channels are a share of those that enter the block.
    """
    y = net.conv_norm_act(x, plan.hidden, 1, plan.name, 1)
    options = {"strides": plan.strides, "dilation": plan.first_dilation, "groups": plan.groups}
    y = net.conv_norm_act(y, plan.hidden, 3, plan.name, 2, **options)
    if squeezed := round(net.spec.se_ratio * x.shape[-1]):
        y = squeeze_excite(net, y, plan.name, squeezed)
    y = net.norm(net.conv(y, plan.filters, 1, plan.name, 3), plan.name, 3, zero=True)
    # A stage that dilates in place of striding keeps its projection, so that weights fit at every output stride.
    changed = plan.strides > 1 or plan.first_dilation != plan.dilation or x.shape[-1] != plan.filters
    if changed:
        place = f"{plan.name}_shortcut"
        x = net.norm(net.conv(x, plan.filters, 1, place, "", strides=plan.strides), place, "")
    return net.merge(y, x, plan)
