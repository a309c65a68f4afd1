"""Stems, by the name a spec gives: image in, features at stride 2 out (level P1). Then the stem's max pooling."""

from __future__ import annotations

from typing import Any

from resnet_backbones.blocks.parts import Parts
from resnet_backbones.keras_api import keras

layers = keras.layers

# Activations that give nothing below zero: a border of zeros never wins a max pooling over them.
_NEVER_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "exponential")


def stem_7x7(net: Parts, x: Any) -> Any:
    """One 7x7 convolution of stride 2 (https://arxiv.org/abs/1512.03385)."""
    return net.conv_norm_act(x, net.spec.stem_channels, 7, "stem", 1, strides=2)


def deep(net: Parts, x: Any) -> Any:
    """Three 3x3 convolutions, the first of stride 2 (https://arxiv.org/abs/1812.01187, ResNet-C)."""
    return _three_convs(net, x, net.spec.stem_width)


def deep_tiered(net: Parts, x: Any) -> Any:
    """The deep stem with a first convolution of three quarters the width (timm's "t")."""
    return _three_convs(net, x, 3 * (net.spec.stem_width // 4))


def _three_convs(net: Parts, x: Any, first: int) -> Any:
    x = net.conv_norm_act(x, first, 3, "stem", 1, strides=2)
    x = net.conv_norm_act(x, net.spec.stem_width, 3, "stem", 2)
    return net.conv_norm_act(x, net.spec.stem_channels, 3, "stem", 3)


STEMS = {"7x7": stem_7x7, "deep": deep, "deep_tiered": deep_tiered}


def stem_pool(net: Parts, x: Any) -> Any:
    """3x3 max pooling of stride 2, padded by 1 on every side with "nothing" (minus infinity), as torch does."""
    if net.spec.activation in _NEVER_NEGATIVE:
        x = net.add(layers.ZeroPadding2D, x, "stem_pool_pad", 1)
        return net.add(layers.MaxPooling2D, x, "stem_pool", 3, 2)
    # Keras pads with minus infinity only for "same", and evenly only at stride 1; so pool, then take every second.
    x = net.add(layers.MaxPooling2D, x, "stem_pool", 3, 1, padding="same")
    return net.add(layers.MaxPooling2D, x, "stem_pool_stride", 1, 2)
