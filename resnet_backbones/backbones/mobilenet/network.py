"""Networks of inverted residuals: stem, stages, perhaps a head (https://arxiv.org/abs/1801.04381), and their blocks.

A block widens, filters each channel, and narrows again, without a last activation (figure 3). Squeeze-and-excitation as
in MobileNetV3, https://arxiv.org/abs/1905.02244, figure 4.
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common import squeeze_excite
from resnet_backbones.backbones.mobilenet.spec import MobilePlan


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


def inverted_residual(net: Parts, x: Any, plan: MobilePlan) -> Any:
    """1x1 to ``plan.expanded`` channels - depthwise (strided) - 1x1 to ``plan.filters``; the shortcut where it fits."""
    wide = _conv(net, x, plan.expanded, 1, f"{plan.name}_expand", plan.activation)
    return _filter_and_project(net, wide, x, plan)


def depthwise_separable(net: Parts, x: Any, plan: MobilePlan) -> Any:
    """Depthwise (strided) - 1x1 to ``plan.filters``; the shortcut where it fits."""
    return _filter_and_project(net, x, x, plan)


def conv(net: Parts, x: Any, plan: MobilePlan) -> Any:
    """A (strided) convolution, batch norm, activation; no shortcut."""
    options = {"strides": plan.strides, "dilation": plan.first_dilation}
    return _conv(net, x, plan.filters, plan.kernel, plan.name, plan.activation, **options)


BLOCKS = {"inverted": inverted_residual, "separable": depthwise_separable, "conv": conv}


def _filter_and_project(net: Parts, y: Any, x: Any, plan: MobilePlan) -> Any:
    """Depthwise convolution, squeeze-and-excitation, projection of ``y``; ``x`` is the block's input."""
    place = f"{plan.name}_depthwise"
    y = net.depthwise(y, plan.kernel, plan.name, "", strides=plan.strides, dilation=plan.first_dilation)
    y = net.activation(net.norm(y, place, ""), f"{place}_act", plan.activation)
    if plan.squeezed:
        y = squeeze_excite(net, y, plan.name, plan.squeezed, activation="relu", gate=net.spec.gate)
    place = f"{plan.name}_project"
    fits = plan.strides == 1 and x.shape[-1] == plan.filters
    y = net.norm(net.conv(y, plan.filters, 1, place, ""), place, "", zero=fits)
    return net.merge(y, x, plan, act=False) if fits else y


def _conv(net: Parts, x: Any, filters: int, kernel: int, place: str, activation: str, **options: Any) -> Any:
    x = net.norm(net.conv(x, filters, kernel, place, "", **options), place, "")
    return net.activation(x, f"{place}_act", activation)
