"""ResNets by the names and letters timm and GluonCV use.

- no letter: the paper's net with the stride on the 3x3 convolution ("v1.5"); ``_v1``: on the 1x1 before it, as in the
  paper
- c: deep stem, three 3x3 convolutions; d: c and average-pooled shortcuts; s: a deep stem twice as wide
- t: a tiered deep stem and average-pooled shortcuts
- ``keras_``: keras.applications' own, v1 with biases before batch norm
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.variant import Variant

_HE = "He et al. 2015, https://arxiv.org/abs/1512.03385"
_BAG_OF_TRICKS = "He et al. 2018, https://arxiv.org/abs/1812.01187"
_GLUON = "Guo et al. 2019, https://arxiv.org/abs/1907.04433"
_TIMM = "Wightman et al. 2021, https://arxiv.org/abs/2110.00476"

# layers: (block, depths)
_DEPTHS = {
    10: ("basic", (1, 1, 1, 1)),
    14: ("bottleneck", (1, 1, 1, 1)),
    18: ("basic", (2, 2, 2, 2)),
    26: ("bottleneck", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}

# letter: (what it changes, description, paper)
_LETTERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "": ({}, "", _HE),
    "c": ({"stem": "deep", "stem_width": 32}, "deep stem", _BAG_OF_TRICKS),
    "d": (
        {"stem": "deep", "stem_width": 32, "shortcut": "avg_pool"},
        "deep stem, average-pooled shortcuts",
        _BAG_OF_TRICKS,
    ),
    "s": ({"stem": "deep", "stem_width": 64}, "wide deep stem", _GLUON),
    "t": (
        {"stem": "deep_tiered", "stem_width": 32, "shortcut": "avg_pool"},
        "tiered deep stem, average-pooled shortcuts",
        _TIMM,
    ),
}

_KERAS: dict[str, Any] = {
    "conv_bias": True,
    "stride_in_1x1": True,
    "bn_epsilon": 1.001e-5,
    "bn_momentum": 0.99,
    "zero_init_last": False,
}


def _description(layers: int, letter: str, block: str, text: str) -> str:
    return f"ResNet-{layers}-{letter.upper()}: {text}" if letter else f"ResNet-{layers}{' (v1.5)' * (block != 'basic')}"


VARIANTS = {
    f"resnet{layers}{letter}": Variant(
        ResNetSpec(block=block, depths=depths, **changes), _description(layers, letter, block, text), "resnet", paper
    )
    for layers, (block, depths) in _DEPTHS.items()
    for letter, (changes, text, paper) in _LETTERS.items()
}
VARIANTS |= {
    f"resnet{layers}_v1": Variant(
        ResNetSpec(depths=_DEPTHS[layers][1], stride_in_1x1=True),
        f"ResNet-{layers} v1: stride in the first 1x1 convolution",
        "resnet",
        _HE,
    )
    for layers in (50, 101, 152)
}
VARIANTS |= {
    f"keras_resnet{layers}": Variant(
        ResNetSpec(depths=_DEPTHS[layers][1], **_KERAS),
        f"ResNet-{layers} v1 as in keras.applications: biases before batch norm",
        "resnet",
        _HE,
        preprocessing="caffe_bgr",
    )
    for layers in (50, 101, 152)
}
