"""Darknets and cross stage partial networks by timm's names.

- darknet: Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767; ``aa`` strides in average pooling
- csp: half of the channels pass the blocks by (Wang et al. 2019, https://arxiv.org/abs/1911.11929)
- cs3: the same with one convolution less, SiLU, and the sizes of YOLOv5; ``focus`` has its 6x6 stem, ``edge`` blocks
  that begin with the 3x3 convolution
- se: squeeze-and-excitation inside each block (Hu et al. 2017, https://arxiv.org/abs/1709.01507)
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.darknet.spec import DarkNetSpec
from resnet_backbones.backbones.spec import Variant

_DARKNET = "Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767"
_CSPNET = "Wang et al. 2019, https://arxiv.org/abs/1911.11929"

_FIVE = {"depths": (1, 2, 8, 8, 4), "widths": (64, 128, 256, 512, 1024)}
_WIDE = (256, 512, 1024, 2048)

# CSPNets of ResNets: blocks of 1x1 - 3x3 - 1x1 after a pooled stem.
_RESNET: dict[str, Any] = {
    "stage": "csp",
    "block": "bottleneck",
    "depths": (3, 3, 5, 2),
    "widths": (128, 256, 512, 1024),
    "stage_strides": (1, 2, 2, 2),
    "stem_widths": (64,),
    "stem_kernel": 7,
    "stem_stride": 2,
    "stem_pool": "max",
    "linear_expansion": True,
    "expand_ratio": 2.0,
}
_DEEP_STEM = {"stem_widths": (32, 32, 64), "stem_kernel": 3}
_NARROW = {"widths": _WIDE, "expand_ratio": 1.0, "block_ratio": 0.5}


def _cs3(width: float, depth: float, **more: Any) -> dict[str, Any]:
    """A YOLOv5 backbone, its widths and depths multiplied."""

    def scaled(*widths: int) -> tuple[int, ...]:
        return tuple(int(channels * width + 4) // 8 * 8 for channels in widths)

    stem: dict[str, Any] = {"stem_widths": scaled(32, 64)}
    if more.pop("focus", False):
        stem = {"stem_widths": scaled(64), "stem_kernel": 6}
    return {
        **stem,
        "activation": "silu",
        "stage": "cs3",
        "depths": tuple(int(blocks * depth) for blocks in (3, 6, 9, 3)),
        "widths": scaled(128, 256, 512, 1024),
        "stem_stride": 2,
        "block_ratio": 0.5,
        "bottleneck_ratio": 1.0,
        **more,
    }


_S, _M, _L, _X = (0.5, 0.5), (0.75, 0.67), (1.0, 1.0), (1.25, 1.33)
_EDGE: dict[str, Any] = {"block": "edge", "bottleneck_ratio": 1.5}
_SE: dict[str, Any] = {"attention": "se", "attention_ratio": 0.25}

# name: (what differs from Darknet-53, family, description)
_TABLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "darknet17": ({"depths": (1,) * 5}, "darknet", "Darknet-17"),
    "darknet21": ({"depths": (1, 1, 1, 2, 2)}, "darknet", "Darknet-21"),
    "sedarknet21": ({"depths": (1, 1, 1, 2, 2), "attention": "se"}, "darknet", "Darknet-21, squeeze-and-excitation"),
    "darknet53": ({}, "darknet", "Darknet-53, YOLOv3's backbone"),
    "darknetaa53": ({"down": "avg_pool"}, "darknet", "Darknet-53, strides in average pooling"),
    "cspdarknet53": (
        {
            **_FIVE,
            "stage": "csp",
            "early_growth": True,
            "expand_ratio": (2.0, 1.0, 1.0, 1.0, 1.0),
            "block_ratio": (1.0, 0.5, 0.5, 0.5, 0.5),
            "bottleneck_ratio": (0.5, 1.0, 1.0, 1.0, 1.0),
        },
        "cspdarknet",
        "CSPDarknet-53, YOLOv4's backbone",
    ),
    "cspresnet50": (_RESNET, "cspresnet", "CSPResNet-50"),
    "cspresnet50d": ({**_RESNET, **_DEEP_STEM}, "cspresnet", "CSPResNet-50-D: deep stem"),
    "cspresnet50w": (
        {**_RESNET, **_DEEP_STEM, **_NARROW, "bottleneck_ratio": 0.25},
        "cspresnet",
        "CSPResNet-50-W: deep stem, wider stages",
    ),
    "cspresnext50": (
        {**_RESNET, **_NARROW, "bottleneck_ratio": 1.0, "groups": 32},
        "cspresnext",
        "CSPResNeXt-50, 32 groups",
    ),
    "cs3darknet_s": (_cs3(*_S), "cs3darknet", "CS3-Darknet small"),
    "cs3darknet_m": (_cs3(*_M), "cs3darknet", "CS3-Darknet medium"),
    "cs3darknet_l": (_cs3(*_L), "cs3darknet", "CS3-Darknet large"),
    "cs3darknet_x": (_cs3(*_X), "cs3darknet", "CS3-Darknet extra large"),
    "cs3darknet_focus_s": (_cs3(*_S, focus=True), "cs3darknet", "CS3-Darknet small, 6x6 stem"),
    "cs3darknet_focus_m": (_cs3(*_M, focus=True), "cs3darknet", "CS3-Darknet medium, 6x6 stem"),
    "cs3darknet_focus_l": (_cs3(*_L, focus=True), "cs3darknet", "CS3-Darknet large, 6x6 stem"),
    "cs3darknet_focus_x": (_cs3(*_X, focus=True), "cs3darknet", "CS3-Darknet extra large, 6x6 stem"),
    "cs3sedarknet_l": (_cs3(*_L, **_SE), "cs3darknet", "CS3-Darknet large, squeeze-and-excitation"),
    "cs3sedarknet_x": (_cs3(*_X, attention="se"), "cs3darknet", "CS3-Darknet extra large, squeeze-and-excitation"),
    "cs3sedarknet_xdw": (
        {
            "activation": "silu",
            "stage": "csp",
            "block": "bottleneck",
            "depths": (3, 6, 12, 4),
            "widths": _WIDE,
            "stem_widths": (32, 64),
            "stem_stride": 2,
            "block_ratio": 0.5,
            "groups": (1, 1, 256, 512),
            "attention": "se",
        },
        "cs3darknet",
        "CSP-Darknet extra large, depthwise in stages 3 and 4, squeeze-and-excitation",
    ),
    "cs3edgenet_x": (_cs3(*_X, **_EDGE), "cs3darknet", "CS3-EdgeNet extra large"),
    "cs3se_edgenet_x": (_cs3(*_X, **{**_EDGE, **_SE}), "cs3darknet", "CS3-EdgeNet extra large, squeeze-and-excitation"),
}

VARIANTS = {
    name: Variant(DarkNetSpec(**fields), text, family, _DARKNET if family == "darknet" else _CSPNET, input_size=256)
    for name, (fields, family, text) in _TABLE.items()
}
