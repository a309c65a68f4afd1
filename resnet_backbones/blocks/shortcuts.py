"""Projection shortcuts, by the name a spec gives: used where a block changes stride or channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_backbones.keras_api import keras
from resnet_backbones.spec import BlockPlan

if TYPE_CHECKING:
    from resnet_backbones.blocks.parts import Parts

layers = keras.layers


def conv(net: Parts, x: Any, plan: BlockPlan, channels: int) -> Any:
    """A strided 1x1 convolution and batch norm (option B of https://arxiv.org/abs/1512.03385)."""
    x = net.conv(x, channels, 1, f"{plan.name}_shortcut", "", strides=plan.strides)
    return net.norm(x, f"{plan.name}_shortcut", "")


def avg_pool(net: Parts, x: Any, plan: BlockPlan, channels: int) -> Any:
    """Average pooling, then the 1x1 convolution: no pixel is thrown away (https://arxiv.org/abs/1812.01187)."""
    place = f"{plan.name}_shortcut"
    if plan.strides > 1:
        # An odd row or column left over is averaged over the pixels it has: "same" does that.
        x = net.add(layers.AveragePooling2D, x, f"{place}_pool", 2, plan.strides, padding="same")
    elif plan.dilation > 1:
        # timm's dilated form: zeros below and right take part in the average.
        x = net.add(layers.ZeroPadding2D, x, f"{place}_pad", ((0, 1), (0, 1)))
        x = net.add(layers.AveragePooling2D, x, f"{place}_pool", 2, 1)
    return net.norm(net.conv(x, channels, 1, place, ""), place, "")


SHORTCUTS = {"conv": conv, "avg_pool": avg_pool}
