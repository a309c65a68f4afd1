"""Projection shortcuts, by the name a spec gives: used where a block changes stride or channels."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.spec import BlockPlan


def conv(net: Any, x: Any, plan: BlockPlan, channels: int, *, norm: bool = True) -> Any:
    """A strided 1x1 convolution and batch norm (option B of https://arxiv.org/abs/1512.03385).

    ``shortcut_kernel`` widens the kernel where the block strides, or dilates in place of a stride.
    """
    kernel = net.spec.shortcut_kernel if plan.strides > 1 or plan.dilation > 1 else 1
    dilation = plan.first_dilation if kernel > 1 else 1
    x = net.conv(x, channels, kernel, f"{plan.name}_shortcut", "", strides=plan.strides, dilation=dilation)
    return net.norm(x, f"{plan.name}_shortcut", "") if norm else x


def avg_pool(net: Any, x: Any, plan: BlockPlan, channels: int, *, norm: bool = True) -> Any:
    """Average pooling, then the 1x1 convolution: no pixel is thrown away (https://arxiv.org/abs/1812.01187)."""
    place = f"{plan.name}_shortcut"
    if plan.strides > 1:
        # An odd row or column left over is averaged over the pixels it has: "same" does that.
        x = net.avg_pool(x, f"{place}_pool", 2, plan.strides, "same")
    elif plan.dilation > 1:
        # timm's dilated form: zeros below and right take part in the average.
        x = net.pad(x, f"{place}_pad", ((0, 1), (0, 1)))
        x = net.avg_pool(x, f"{place}_pool", 2, 1)
    x = net.conv(x, channels, 1, place, "")
    return net.norm(x, place, "") if norm else x


def max_pool(net: Any, x: Any, plan: BlockPlan, channels: int, *, norm: bool = True) -> Any:
    """Every second pixel where the channels stay, else the 1x1 convolution (keras.applications' ResNet v2)."""
    if x.shape[-1] == channels:
        return net.max_pool(x, f"{plan.name}_shortcut_pool", 1, plan.strides)
    return conv(net, x, plan, channels, norm=norm)


def pad(net: Any, x: Any, plan: BlockPlan, channels: int) -> Any:
    """Every second pixel, and channels of zeros on both sides (option A of https://arxiv.org/abs/1512.03385).

    No parameters, as in the paper's nets for CIFAR. That half of the zeros come first is Akamaster's way
    (https://github.com/akamaster/pytorch_resnet_cifar10); the order of channels means nothing else.

    Raises:
        ValueError: the block has fewer channels than its input.
    """
    missing = channels - x.shape[-1]
    if missing < 0:
        raise ValueError(
            f"shortcut 'pad' adds channels, and {plan.name} has {channels} of {x.shape[-1]}: take shortcut='conv'."
        )
    if plan.strides > 1:
        x = net.max_pool(x, f"{plan.name}_shortcut_pool", 1, plan.strides)
    return net.channel_pad(x, f"{plan.name}_shortcut_pad", missing // 2, missing - missing // 2) if missing else x


SHORTCUTS: dict[str, Any] = {"conv": conv, "avg_pool": avg_pool, "max_pool": max_pool, "pad": pad}
