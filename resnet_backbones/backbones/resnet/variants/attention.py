"""ResNets and ResNeXts with attention at the end of each block: squeeze and excitation, ECA, CBAM.

The letters d and t are those of the ResNets (see ``variants.resnet``).
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.variant import Variant

_D: dict[str, Any] = {"stem": "deep", "stem_width": 32, "shortcut": "avg_pool"}
_T: dict[str, Any] = {"stem": "deep_tiered", "stem_width": 32, "shortcut": "avg_pool"}
_BASIC: dict[str, Any] = {"block": "basic"}
_32X4 = {"groups": 32, "group_width": 4}
_32X8 = {"groups": 32, "group_width": 8}
_64X4 = {"groups": 64, "group_width": 4}
_SENET = {**_64X4, "stem": "deep", "stem_width": 64, "shortcut_kernel": 3, "reduce_first": 2}

_18, _26, _34 = (2, 2, 2, 2), (2, 2, 2, 2), (3, 4, 6, 3)
_50, _101, _152, _200, _269 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3), (3, 24, 36, 3), (3, 30, 48, 8)

# name: (attention, family, depths, what else the spec says, input size, description)
_TABLE: dict[str, tuple[str, str, tuple[int, ...], dict[str, Any], int, str]] = {
    "seresnet18": ("se", "seresnet", _18, _BASIC, 224, "SE-ResNet-18"),
    "seresnet34": ("se", "seresnet", _34, _BASIC, 224, "SE-ResNet-34"),
    "seresnet50": ("se", "seresnet", _50, {}, 224, "SE-ResNet-50"),
    "seresnet50t": ("se", "seresnet", _50, _T, 224, "SE-ResNet-50-T"),
    "seresnet101": ("se", "seresnet", _101, {}, 224, "SE-ResNet-101"),
    "seresnet152": ("se", "seresnet", _152, {}, 224, "SE-ResNet-152"),
    "seresnet152d": ("se", "seresnet", _152, _D, 256, "SE-ResNet-152-D"),
    "seresnet200d": ("se", "seresnet", _200, _D, 256, "SE-ResNet-200-D"),
    "seresnet269d": ("se", "seresnet", _269, _D, 256, "SE-ResNet-269-D"),
    "seresnext26d_32x4d": ("se", "seresnext", _26, {**_D, **_32X4}, 224, "SE-ResNeXt-26-D, 32 groups of width 4"),
    "seresnext26t_32x4d": ("se", "seresnext", _26, {**_T, **_32X4}, 224, "SE-ResNeXt-26-T, 32 groups of width 4"),
    "seresnext50_32x4d": ("se", "seresnext", _50, _32X4, 224, "SE-ResNeXt-50, 32 groups of width 4"),
    "seresnext101_32x4d": ("se", "seresnext", _101, _32X4, 224, "SE-ResNeXt-101, 32 groups of width 4"),
    "seresnext101_32x8d": ("se", "seresnext", _101, _32X8, 224, "SE-ResNeXt-101, 32 groups of width 8"),
    "seresnext101d_32x8d": ("se", "seresnext", _101, {**_D, **_32X8}, 224, "SE-ResNeXt-101-D, 32 groups of width 8"),
    "seresnext101_64x4d": ("se", "seresnext", _101, _64X4, 224, "SE-ResNeXt-101, 64 groups of width 4"),
    "senet154": ("se", "seresnext", _152, _SENET, 224, "SENet-154: 64 groups, a wide deep stem, 3x3 shortcuts"),
    "ecaresnet26t": ("eca", "ecaresnet", _26, _T, 256, "ECA-ResNet-26-T"),
    "ecaresnet50d": ("eca", "ecaresnet", _50, _D, 224, "ECA-ResNet-50-D"),
    "ecaresnet50t": ("eca", "ecaresnet", _50, _T, 256, "ECA-ResNet-50-T"),
    "ecaresnet101d": ("eca", "ecaresnet", _101, _D, 224, "ECA-ResNet-101-D"),
    "ecaresnet200d": ("eca", "ecaresnet", _200, _D, 256, "ECA-ResNet-200-D"),
    "ecaresnet269d": ("eca", "ecaresnet", _269, _D, 320, "ECA-ResNet-269-D"),
    "ecaresnetlight": ("eca", "ecaresnet", (1, 1, 11, 3), {"shortcut": "avg_pool"}, 224, "ECA-ResNet-Light"),
    "ecaresnext26t_32x4d": ("eca", "ecaresnext", _26, {**_T, **_32X4}, 224, "ECA-ResNeXt-26-T, 32 groups of width 4"),
    "ecaresnext50t_32x4d": ("eca", "ecaresnext", _50, {**_T, **_32X4}, 224, "ECA-ResNeXt-50-T, 32 groups of width 4"),
    "cbamresnet18": ("cbam", "cbamresnet", _18, _BASIC, 224, "CBAM-ResNet-18"),
    "cbamresnet34": ("cbam", "cbamresnet", _34, _BASIC, 224, "CBAM-ResNet-34"),
    "cbamresnet50": ("cbam", "cbamresnet", _50, {}, 224, "CBAM-ResNet-50"),
    "cbamresnet101": ("cbam", "cbamresnet", _101, {}, 224, "CBAM-ResNet-101"),
    "cbamresnext50_32x4d": ("cbam", "cbamresnet", _50, _32X4, 224, "CBAM-ResNeXt-50, 32 groups of width 4"),
}

_PAPERS = {
    "se": "Hu et al. 2017, https://arxiv.org/abs/1709.01507",
    "eca": "Wang et al. 2019, https://arxiv.org/abs/1910.03151",
    "cbam": "Woo et al. 2018, https://arxiv.org/abs/1807.06521",
}

VARIANTS = {
    name: Variant(ResNetSpec(depths=depths, attention=kind, **rest), text, family, _PAPERS[kind], input_size)
    for name, (kind, family, depths, rest, input_size, text) in _TABLE.items()
}
