"""ResNet-RS: ResNet-D with squeeze and excitation and a convolution in place of the stem's pooling."""

from __future__ import annotations

from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.variant import Variant

_BELLO = "Bello et al. 2021, https://arxiv.org/abs/2103.07579"
_SPEC = ResNetSpec(
    stem="deep", stem_width=32, stem_pool="conv", shortcut="avg_pool", attention="se", attention_ratio=0.25
)

# layers: (depths, input size)
_TABLE = {
    50: ((3, 4, 6, 3), 160),
    101: ((3, 4, 23, 3), 192),
    152: ((3, 8, 36, 3), 256),
    200: ((3, 24, 36, 3), 256),
    270: ((4, 29, 53, 4), 256),
    350: ((4, 36, 72, 4), 288),
    420: ((4, 44, 87, 4), 320),
}

VARIANTS = {
    f"resnetrs{layers}": Variant(_SPEC.replace(depths=depths), f"ResNet-RS-{layers}", "resnetrs", _BELLO, input_size)
    for layers, (depths, input_size) in _TABLE.items()
}
