"""Stems of ResNets, by the name a spec gives: image in, level P1 out. Then the stem's pooling."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common.antialias import low_pass

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

    Antialiased, it has stride 1, and the filter strides right behind it.
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
