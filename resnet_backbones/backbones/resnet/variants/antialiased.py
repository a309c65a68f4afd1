"""Antialiased ResNets: a low-pass filter does the striding, ``blur`` (1-2-1) or ``aa`` (the mean of 2x2 pixels)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.variant import Variant

_D: dict[str, Any] = {"stem": "deep", "stem_width": 32, "shortcut": "avg_pool"}
_S2: dict[str, Any] = {"stem": "deep", "stem_width": 64, "shortcut": "avg_pool"}
_BASIC: dict[str, Any] = {"block": "basic"}
_SE_32X8 = {"attention": "se", "groups": 32, "group_width": 8}
_50, _101, _201 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 24, 36, 4)
_ZHANG = "Zhang 2019, https://arxiv.org/abs/1904.11486"

# name: (filter, family, depths, what else the spec says, input size, description)
_TABLE: dict[str, tuple[str, str, tuple[int, ...], dict[str, Any], int, str]] = {
    "resnetblur18": ("blur", "resnetblur", (2, 2, 2, 2), _BASIC, 224, "ResNet-18 with blur pooling"),
    "resnetblur50": ("blur", "resnetblur", _50, {}, 224, "ResNet-50 with blur pooling"),
    "resnetblur50d": ("blur", "resnetblur", _50, _D, 224, "ResNet-50-D with blur pooling"),
    "resnetblur101d": ("blur", "resnetblur", _101, _D, 224, "ResNet-101-D with blur pooling"),
    "resnetaa34d": ("avg", "resnetaa", (3, 4, 6, 3), {**_BASIC, **_D}, 224, "ResNet-34-D with average antialiasing"),
    "resnetaa50": ("avg", "resnetaa", _50, {}, 224, "ResNet-50 with average antialiasing"),
    "resnetaa50d": ("avg", "resnetaa", _50, _D, 224, "ResNet-50-D with average antialiasing"),
    "resnetaa101d": ("avg", "resnetaa", _101, _D, 224, "ResNet-101-D with average antialiasing"),
    "seresnetaa50d": (
        *("avg", "resnetaa", _50, {**_D, "attention": "se"}, 224),
        "SE-ResNet-50-D with average antialiasing",
    ),
    "seresnextaa101d_32x8d": (
        *("avg", "resnetaa", _101, {**_D, **_SE_32X8}, 288),
        "SE-ResNeXt-101-D with average antialiasing, 32 groups of width 8",
    ),
    "seresnextaa201d_32x8d": (
        *("avg", "resnetaa", _201, {**_S2, **_SE_32X8}, 384),
        "SE-ResNeXt-201-D with average antialiasing, 32 groups of width 8",
    ),
}

VARIANTS = {
    name: Variant(ResNetSpec(depths=depths, antialias=kind, **rest), text, family, _ZHANG, input_size)
    for name, (kind, family, depths, rest, input_size, text) in _TABLE.items()
}
