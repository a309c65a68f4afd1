"""Inverted residuals and their kin: narrow to wide, filter each channel, back to narrow, without a last activation.

Sources: MobileNetV2, https://arxiv.org/abs/1801.04381, figure 3; squeeze-and-excitation as in MobileNetV3,
https://arxiv.org/abs/1905.02244, figure 4.
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common.squeeze_excite import squeeze_excite
from resnet_backbones.backbones.mobilenet.spec import MobilePlan


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
