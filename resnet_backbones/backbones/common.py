"""What several architectures share: attention, striding after a low-pass filter, stems and their pooling.

Attention and stems are looked up by the name that a spec gives.
"""

from __future__ import annotations

import math
from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.spec import BlockPlan


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


def squeeze_excite(
    net: Parts, x: Any, name: str, squeezed: int, *, activation: str | None = None, gate: str = "sigmoid"
) -> Any:
    """Each channel of ``x`` times a number between 0 and 1, told from the means of all.

    Args:
        net: what adds the layers.
        x: (batch, height, width, channels).
        name: of the block; the layers are called ``{name}_se_reduce``, ``{name}_se_expand`` ...
        squeezed: channels between the two 1x1 convolutions.
        activation: what follows the first of them, by default the spec's.
        gate: what follows the second.

    Returns:
        The same shape as ``x``.

    Source: Hu et al. 2017, https://arxiv.org/abs/1709.01507
    """
    place = f"{name}_se"
    y = net.global_pool(x, f"{place}_pool")
    y = net.conv2d(y, f"{place}_reduce", squeezed, 1, bias=True)
    y = net.activation(y, f"{place}_act", activation or net.spec.activation)
    y = net.conv2d(y, f"{place}_expand", x.shape[-1], 1, bias=True)
    return net.multiply(x, net.gate(y, f"{place}_gate", gate), f"{place}_out")


def strided(net: Parts, x: Any, filters: int, kernel: int, plan: BlockPlan, label: Any, *, groups: int = 1) -> Any:
    """Convolution, batch norm, activation at the block's stride: where a block shrinks its input.

    Antialiased, the convolution has stride 1 and a filter after the activation strides. As in timm, the filter is
    there too, without striding, where dilation takes the place of a stride.
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


# Activations that give nothing below zero: a border of zeros never wins a max pooling over them.
_NEVER_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "exponential")


def stem_7x7(net: Parts, x: Any, *, bare: bool = False) -> Any:
    """One 7x7 convolution of stride 2 (https://arxiv.org/abs/1512.03385)."""
    return _last_conv(net, x, net.spec.stem_width, 7, 1, bare, strides=2)


def stem_3x3(net: Parts, x: Any, *, bare: bool = False) -> Any:
    """One 3x3 convolution of stride 1, for images of 32 pixels (the CIFAR nets of https://arxiv.org/abs/1512.03385)."""
    return _last_conv(net, x, net.spec.stem_width, 3, 1, bare)


def deep(net: Parts, x: Any, *, bare: bool = False) -> Any:
    """Three 3x3 convolutions, the first of stride 2 (https://arxiv.org/abs/1812.01187, ResNet-C)."""
    return _three_convs(net, x, net.spec.stem_width, bare)


def deep_tiered(net: Parts, x: Any, *, bare: bool = False) -> Any:
    """The deep stem with a first convolution of three quarters the width (timm's "t")."""
    return _three_convs(net, x, 3 * (net.spec.stem_width // 4), bare)


def _three_convs(net: Parts, x: Any, first: int, bare: bool) -> Any:
    x = net.conv_norm_act(x, first, 3, "stem", 1, strides=2)
    x = net.conv_norm_act(x, net.spec.stem_width, 3, "stem", 2)
    return _last_conv(net, x, 2 * net.spec.stem_width, 3, 3, bare)


def _last_conv(net: Parts, x: Any, filters: int, kernel: int, label: int, bare: bool, *, strides: int = 1) -> Any:
    """Bare before blocks that normalise first (v2): without batch norm and activation of its own."""
    if bare:
        return net.conv(x, filters, kernel, "stem", label, strides=strides)
    return net.conv_norm_act(x, filters, kernel, "stem", label, strides=strides)


def max_pool(net: Parts, x: Any, *, bare: bool = False) -> Any:
    """3x3 max pooling of stride 2, padded by 1 on every side with "nothing" (minus infinity), as torch does.

    Antialiased by ``"blur"``, the maximum has stride 1 and the filter strides; ``"avg"`` averages in its place.
    """
    antialias = getattr(net.spec, "antialias", None)  # specs of other families have no such field
    if antialias == "blur":
        return low_pass(net, net.max_pool(x, "stem_pool", 3, 1, "same"), "stem_antialias", 2)
    if antialias == "avg":
        return low_pass(net, x, "stem_antialias", 2)
    if net.spec.activation in _NEVER_NEGATIVE and not bare:
        return max_pool_zeros(net, x)
    # Keras pads with minus infinity only for "same", and evenly only at stride 1; so pool, then take every second.
    return net.max_pool(net.max_pool(x, "stem_pool", 3, 1, "same"), "stem_pool_stride", 1, 2)


def max_pool_zeros(net: Parts, x: Any, *, bare: bool = False) -> Any:  # noqa: ARG001 - called like the others
    """3x3 max pooling of stride 2 over a border of zeros (keras.applications, also where values below zero lose)."""
    return net.max_pool(net.pad(x, "stem_pool_pad", ((1, 1), (1, 1))), "stem_pool", 3, 2)


def conv_pool(net: Parts, x: Any, *, bare: bool = False) -> Any:  # noqa: ARG001 - called like the others
    """A 3x3 convolution of stride 2 in place of the pooling (ResNet-RS, https://arxiv.org/abs/2103.07579).

    Antialiased, it has stride 1, and the filter right after it strides.
    """
    if net.spec.antialias is None:
        return net.conv_norm_act(x, x.shape[-1], 3, "stem_pool", "", strides=2)
    x = low_pass(net, net.conv(x, x.shape[-1], 3, "stem_pool", ""), "stem_antialias", 2)
    return net.act(net.norm(x, "stem_pool", ""), "stem_pool_act")


def no_pool(net: Parts, x: Any, *, bare: bool = False) -> Any:  # noqa: ARG001 - called like the others
    """Nothing."""
    return x


STEMS = {"7x7": stem_7x7, "deep": deep, "deep_tiered": deep_tiered, "3x3": stem_3x3}
STEM_POOLS = {"max": max_pool, "max_zeros": max_pool_zeros, "conv": conv_pool, "none": no_pool}
