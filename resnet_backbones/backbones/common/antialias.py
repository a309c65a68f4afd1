"""Striding behind a low-pass filter, where the spec asks for it (https://arxiv.org/abs/1904.11486)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.spec import BlockPlan


def strided(net: Parts, x: Any, filters: int, kernel: int, plan: BlockPlan, label: Any, *, groups: int = 1) -> Any:
    """Convolution, batch norm, activation at the block's stride: where a block shrinks its input.

    Antialiased, the convolution has stride 1 and a filter behind the activation strides. As in timm, the filter also
    stands, without striding, where dilation takes the place of a stride.
    """
    replaced = plan.strides > 1 or plan.first_dilation != plan.dilation
    antialiased = net.spec.antialias is not None and replaced
    x = net.conv_norm_act(
        x,
        filters,
        kernel,
        plan.name,
        label,
        strides=1 if antialiased else plan.strides,
        dilation=plan.first_dilation if kernel > 1 else 1,
        groups=groups,
    )
    return low_pass(net, x, f"{plan.name}_antialias", plan.strides) if antialiased else x


def low_pass(net: Parts, x: Any, name: str, strides: int) -> Any:
    """The spec's low-pass filter, strided: ``"blur"``, 1-2-1 both ways, or ``"avg"``, the mean of what is strided over.

    An odd row or column left over is averaged over the pixels it has.
    """
    if net.spec.antialias == "blur":
        return net.blur_pool(x, name, strides)
    return x if strides == 1 else net.avg_pool(x, name, strides, strides, "same")
