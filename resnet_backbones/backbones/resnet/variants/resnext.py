"""ResNeXts and wide ResNets: bottlenecks whose 3x3 convolution has groups, or more channels.

``resnext50_32x4d`` has 32 groups, each 4 wide in the first stage; ``wide_resnet50_2`` is twice as wide inside.
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.variant import Variant

_D: dict[str, Any] = {"stem": "deep", "stem_width": 32, "shortcut": "avg_pool"}

_XIE = "Xie et al. 2016, https://arxiv.org/abs/1611.05431"
_ZAGORUYKO = "Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146"

# name: (depths, groups, group width, letter, description)
_RESNEXTS = {
    "resnext26_32x4d": ((2, 2, 2, 2), 32, 4, {}, "ResNeXt-26, 32 groups of width 4"),
    "resnext50_32x4d": ((3, 4, 6, 3), 32, 4, {}, "ResNeXt-50, 32 groups of width 4"),
    "resnext50d_32x4d": ((3, 4, 6, 3), 32, 4, _D, "ResNeXt-50-D, 32 groups of width 4"),
    "resnext101_32x4d": ((3, 4, 23, 3), 32, 4, {}, "ResNeXt-101, 32 groups of width 4"),
    "resnext101_32x8d": ((3, 4, 23, 3), 32, 8, {}, "ResNeXt-101, 32 groups of width 8"),
    "resnext101_32x16d": ((3, 4, 23, 3), 32, 16, {}, "ResNeXt-101, 32 groups of width 16"),
    "resnext101_32x32d": ((3, 4, 23, 3), 32, 32, {}, "ResNeXt-101, 32 groups of width 32"),
    "resnext101_64x4d": ((3, 4, 23, 3), 64, 4, {}, "ResNeXt-101, 64 groups of width 4"),
}

VARIANTS = {
    name: Variant(ResNetSpec(depths=depths, groups=groups, group_width=width, **letter), text, "resnext", _XIE)
    for name, (depths, groups, width, letter, text) in _RESNEXTS.items()
} | {
    f"wide_resnet{layers}_2": Variant(
        ResNetSpec(depths=depths, group_width=128),
        f"Wide ResNet-{layers}: 3x3 convolutions twice as wide",
        "wide_resnet",
        _ZAGORUYKO,
    )
    for layers, depths in ((50, (3, 4, 6, 3)), (101, (3, 4, 23, 3)))
}
