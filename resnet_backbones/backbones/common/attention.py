"""Attention at the end of a residual branch, by the name a spec gives: gates of 0 to 1 on what the branch made."""

from __future__ import annotations

import math
from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common.squeeze_excite import squeeze_excite


def attend(net: Parts, x: Any, place: str) -> Any:
    """``x`` gated by the spec's attention; ``x`` itself where the spec has none."""
    return x if net.spec.attention is None else ATTENTIONS[net.spec.attention](net, x, place)


def se(net: Parts, x: Any, place: str) -> Any:
    """Squeeze and excitation: two dense layers on the global mean gate each channel.

    Source: Hu et al. 2017, https://arxiv.org/abs/1709.01507
    """
    width = squeezed(x.shape[-1], net.spec.attention_ratio, 8)
    return squeeze_excite(net, x, place, width, activation="relu")  # whatever the net's activation, as in timm


def eca(net: Parts, x: Any, place: str) -> Any:
    """Efficient channel attention: one short convolution along the channels' means gates each channel.

    The channels lie along the height of a map one pixel wide, so that it is an ordinary convolution.

    Source: Wang et al. 2019, https://arxiv.org/abs/1910.03151
    """
    place = f"{place}_eca"
    channels = x.shape[-1]
    y = net.global_pool(x, f"{place}_pool")
    y = net.reshape(y, f"{place}_column", (channels, 1, 1))
    y = net.conv2d(y, f"{place}_conv", 1, (eca_kernel(channels), 1))
    y = net.activation(y, f"{place}_gate", "sigmoid")
    return net.multiply(x, net.reshape(y, f"{place}_row", (1, 1, channels)), f"{place}_out")


def cbam(net: Parts, x: Any, place: str) -> Any:
    """Convolutional block attention: a gate for each channel, then one for each pixel.

    Source: Woo et al. 2018, https://arxiv.org/abs/1807.06521
    """
    place = f"{place}_cbam"
    channels = x.shape[-1]
    kinds = ("avg", "max")
    pooled = [net.global_pool(x, f"{place}_{kind}", kind) for kind in kinds]
    reduced = net.shared_conv2d(pooled, f"{place}_reduce", squeezed(channels, net.spec.attention_ratio, 1), 1)
    parts = [net.activation(y, f"{place}_{kind}_act", "relu") for y, kind in zip(reduced, kinds, strict=True)]
    # The second convolution has no bias, so it may follow the sum of the two instead of standing before it.
    y = net.conv2d(net.sum(parts, f"{place}_sum"), f"{place}_expand", channels, 1)
    x = net.multiply(x, net.activation(y, f"{place}_channel_gate", "sigmoid"), f"{place}_channel_out")

    maps = [net.channel_pool(x, f"{place}_channels_{kind}", kind) for kind in kinds]
    y = net.conv2d(net.concat(maps, f"{place}_concat"), f"{place}_conv", 1, 7)
    y = net.batch_norm(y, f"{place}_bn")
    return net.multiply(x, net.activation(y, f"{place}_pixel_gate", "sigmoid"), f"{place}_out")


def squeezed(channels: int, ratio: float, divisor: int) -> int:
    """``channels * ratio`` rounded to a multiple of ``divisor``, at least one of it."""
    return max(divisor, int(channels * ratio + divisor / 2) // divisor * divisor)


def eca_kernel(channels: int) -> int:
    """The kernel for a number of channels: odd, at least 3, growing with their logarithm."""
    size = int(abs(math.log2(channels) + 1) / 2)
    return max(size if size % 2 else size + 1, 3)


ATTENTIONS = {"se": se, "eca": eca, "cbam": cbam}
