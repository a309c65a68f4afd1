"""ResNets v2: batch norm and activation before each convolution, by timm's names; ``keras_``: keras.applications' own.

timm's stride in the 3x3 convolution of a stage's first block. keras.applications' stride in that of a stage's last
block, pool over a border of zeros behind the bare stem, and have biases where no batch norm follows.
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.variant import Variant

_HE = "He et al. 2016, https://arxiv.org/abs/1603.05027"
_V2: dict[str, Any] = {"zero_init_last": False}
_D = {"stem": "deep", "stem_width": 32, "shortcut": "avg_pool"}
_T = {"stem": "deep_tiered", "stem_width": 32, "shortcut": "avg_pool"}
_BASIC, _BOTTLENECK = "preact_basic", "preact_bottleneck"

# name: (block, depths, letter, description)
_TABLE: dict[str, tuple[str, tuple[int, ...], dict[str, Any], str]] = {
    "resnetv2_18": (_BASIC, (2, 2, 2, 2), {}, "ResNet-18 v2"),
    "resnetv2_18d": (_BASIC, (2, 2, 2, 2), _D, "ResNet-18-D v2: deep stem, average-pooled shortcuts"),
    "resnetv2_34": (_BASIC, (3, 4, 6, 3), {}, "ResNet-34 v2"),
    "resnetv2_34d": (_BASIC, (3, 4, 6, 3), _D, "ResNet-34-D v2: deep stem, average-pooled shortcuts"),
    "resnetv2_50": (_BOTTLENECK, (3, 4, 6, 3), {}, "ResNet-50 v2"),
    "resnetv2_50d": (_BOTTLENECK, (3, 4, 6, 3), _D, "ResNet-50-D v2: deep stem, average-pooled shortcuts"),
    "resnetv2_50t": (_BOTTLENECK, (3, 4, 6, 3), _T, "ResNet-50-T v2: tiered deep stem, average-pooled shortcuts"),
    "resnetv2_101": (_BOTTLENECK, (3, 4, 23, 3), {}, "ResNet-101 v2"),
    "resnetv2_101d": (_BOTTLENECK, (3, 4, 23, 3), _D, "ResNet-101-D v2: deep stem, average-pooled shortcuts"),
    "resnetv2_152": (_BOTTLENECK, (3, 8, 36, 3), {}, "ResNet-152 v2"),
    "resnetv2_152d": (_BOTTLENECK, (3, 8, 36, 3), _D, "ResNet-152-D v2: deep stem, average-pooled shortcuts"),
}

VARIANTS = {
    name: Variant(
        ResNetSpec(block=block, depths=depths, **_V2, **letter),
        description,
        "resnetv2",
        _HE,
        preprocessing="minus_one_to_one",
    )
    for name, (block, depths, letter, description) in _TABLE.items()
}

_KERAS = ResNetSpec(
    block=_BOTTLENECK,
    stage_strides=(2, 2, 2, 1),
    stride_in_last=True,
    stem_pool="max_zeros",
    shortcut="max_pool",
    conv_bias=True,
    bn_epsilon=1.001e-5,
    bn_momentum=0.99,
    **_V2,
)

VARIANTS |= {
    f"keras_resnet{layers}v2": Variant(
        _KERAS.replace(depths=depths),
        f"ResNet-{layers} v2 as in keras.applications: stages stride in their last block",
        "resnetv2",
        _HE,
        preprocessing="minus_one_to_one",
    )
    for layers, depths in ((50, (3, 4, 6, 3)), (101, (3, 4, 23, 3)), (152, (3, 8, 36, 3)))
}
