"""ResNets by the names and letters timm and GluonCV use.

- no letter: He et al. 2015, https://arxiv.org/abs/1512.03385, stride on the 3x3 ("v1.5")
- c: deep stem, three 3x3 convolutions; d: c and average-pooled shortcuts (He et al. 2018,
  https://arxiv.org/abs/1812.01187)
- s: a wider deep stem (GluonCV); t: a tiered deep stem and average-pooled shortcuts (timm)
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.spec import ResNetSpec

_PLAIN: dict[str, Any] = {}
_C = {"stem": "deep", "stem_width": 32}
_D = {**_C, "shortcut": "avg_pool"}
_S = {"stem": "deep", "stem_width": 64}
_T = {"stem": "deep_tiered", "stem_width": 32, "shortcut": "avg_pool"}

# name: (block, depths, letter, description)
_TABLE = {
    "resnet10t": ("basic", (1, 1, 1, 1), _T, "ResNet-10-T: tiered deep stem, average-pooled shortcuts"),
    "resnet14t": ("bottleneck", (1, 1, 1, 1), _T, "ResNet-14-T: tiered deep stem, average-pooled shortcuts"),
    "resnet18": ("basic", (2, 2, 2, 2), _PLAIN, "ResNet-18"),
    "resnet18d": ("basic", (2, 2, 2, 2), _D, "ResNet-18-D: deep stem, average-pooled shortcuts"),
    "resnet26": ("bottleneck", (2, 2, 2, 2), _PLAIN, "ResNet-26"),
    "resnet26d": ("bottleneck", (2, 2, 2, 2), _D, "ResNet-26-D: deep stem, average-pooled shortcuts"),
    "resnet34": ("basic", (3, 4, 6, 3), _PLAIN, "ResNet-34"),
    "resnet34d": ("basic", (3, 4, 6, 3), _D, "ResNet-34-D: deep stem, average-pooled shortcuts"),
    "resnet50": ("bottleneck", (3, 4, 6, 3), _PLAIN, "ResNet-50 (v1.5)"),
    "resnet50c": ("bottleneck", (3, 4, 6, 3), _C, "ResNet-50-C: deep stem"),
    "resnet50d": ("bottleneck", (3, 4, 6, 3), _D, "ResNet-50-D: deep stem, average-pooled shortcuts"),
    "resnet50s": ("bottleneck", (3, 4, 6, 3), _S, "ResNet-50-S: wide deep stem"),
    "resnet101": ("bottleneck", (3, 4, 23, 3), _PLAIN, "ResNet-101 (v1.5)"),
    "resnet101d": ("bottleneck", (3, 4, 23, 3), _D, "ResNet-101-D: deep stem, average-pooled shortcuts"),
    "resnet152": ("bottleneck", (3, 8, 36, 3), _PLAIN, "ResNet-152 (v1.5)"),
    "resnet152d": ("bottleneck", (3, 8, 36, 3), _D, "ResNet-152-D: deep stem, average-pooled shortcuts"),
    "resnet200": ("bottleneck", (3, 24, 36, 3), _PLAIN, "ResNet-200 (v1.5)"),
    "resnet200d": ("bottleneck", (3, 24, 36, 3), _D, "ResNet-200-D: deep stem, average-pooled shortcuts"),
}

RESNETS = {
    name: (ResNetSpec(block=block, depths=depths, **letter), description)
    for name, (block, depths, letter, description) in _TABLE.items()
}
