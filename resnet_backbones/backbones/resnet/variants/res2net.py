"""Res2Nets: ``res2net50_26w_4s`` splits its channels into 4 pieces ("scales"), each 26 wide in the first stage."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.variant import Variant

_D: dict[str, Any] = {"stem": "deep", "stem_width": 32, "shortcut": "avg_pool"}
_50, _101 = (3, 4, 6, 3), (3, 4, 23, 3)
_GAO = "Gao et al. 2019, https://arxiv.org/abs/1904.01169"

# name: (depths, groups, width, scales, letter, description)
_TABLE = {
    "res2net50_14w_8s": (_50, 1, 14, 8, {}, "Res2Net-50, 8 scales of width 14"),
    "res2net50_26w_4s": (_50, 1, 26, 4, {}, "Res2Net-50, 4 scales of width 26"),
    "res2net50_26w_6s": (_50, 1, 26, 6, {}, "Res2Net-50, 6 scales of width 26"),
    "res2net50_26w_8s": (_50, 1, 26, 8, {}, "Res2Net-50, 8 scales of width 26"),
    "res2net50_48w_2s": (_50, 1, 48, 2, {}, "Res2Net-50, 2 scales of width 48"),
    "res2net50d": (_50, 1, 26, 4, _D, "Res2Net-50-D, 4 scales of width 26"),
    "res2net101_26w_4s": (_101, 1, 26, 4, {}, "Res2Net-101, 4 scales of width 26"),
    "res2net101d": (_101, 1, 26, 4, _D, "Res2Net-101-D, 4 scales of width 26"),
    "res2next50": (_50, 8, 4, 4, {}, "Res2NeXt-50, 4 scales of 8 groups of width 4"),
}

VARIANTS = {
    name: Variant(
        ResNetSpec(block="bottle2neck", depths=depths, groups=groups, group_width=width, scale=scale, **letter),
        text,
        "res2net",
        _GAO,
    )
    for name, (depths, groups, width, scale, letter, text) in _TABLE.items()
}
