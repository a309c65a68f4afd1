"""Residual networks for images of 32 pixels: three stages, a stem of one 3x3 convolution, no pooling.

``resnet20`` to ``resnet110`` as in the paper (section 4.2): shortcuts without parameters, which is its option A; with
``shortcut="conv"`` they are what many others mean by these names. ``wrn_28_10`` has 28 layers, 10 times as wide.
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.variant import Variant

_HE_2015 = "He et al. 2015, https://arxiv.org/abs/1512.03385"
_HE_2016 = "He et al. 2016, https://arxiv.org/abs/1603.05027"
_ZAGORUYKO = "Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146"
_WIDTHS = (16, 32, 64)
_STEM: dict[str, Any] = {"stem": "3x3", "stem_width": 16}
_SIZE = 32

VARIANTS = {
    f"resnet{layers}": Variant(
        ResNetSpec(block="basic", depths=((layers - 2) // 6,) * 3, widths=_WIDTHS, shortcut="pad", **_STEM),
        f"ResNet-{layers} for CIFAR: shortcuts without parameters",
        "cifar_resnet",
        _HE_2015,
        _SIZE,
        None,
        aliases=(f"cifar_resnet{layers}",),
    )
    for layers in (20, 32, 44, 56, 110)
}
VARIANTS["resnet164"] = Variant(
    ResNetSpec(block="preact_bottleneck", depths=(18, 18, 18), widths=_WIDTHS, zero_init_last=False, **_STEM),
    "ResNet-164 v2 for CIFAR",
    "cifar_resnet",
    _HE_2016,
    _SIZE,
    None,
    aliases=("resnetv2_164", "cifar_resnet164"),
)
VARIANTS |= {
    f"wrn_{layers}_{factor}": Variant(
        ResNetSpec(
            block="preact_basic",
            depths=((layers - 4) // 6,) * 3,
            widths=tuple(factor * width for width in _WIDTHS),
            zero_init_last=False,
            **_STEM,
        ),
        f"Wide ResNet of {layers} layers, {factor} times as wide, for CIFAR",
        "wrn",
        _ZAGORUYKO,
        _SIZE,
        None,
        aliases=(f"wrn{layers}_{factor}",),
    )
    for layers, factor in ((16, 8), (28, 10), (40, 4))
}
