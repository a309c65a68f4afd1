"""MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381), by timm's names.

The number is the width in hundredths; ``d`` is deeper too (Wightman's timm). ``keras_`` is keras.applications':
padded as TensorFlow does, epsilon 1e-3.
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.mobilenet.spec import MobileNetSpec
from resnet_backbones.backbones.variant import Variant

_PAPER = "Sandler et al. 2018, https://arxiv.org/abs/1801.04381"
_KERAS: dict[str, Any] = {"padding": "same", "bn_epsilon": 1e-3}

# name: (width, depth, scale_ends, aliases)
_TIMM = {
    "mobilenetv2_035": (0.35, 1.0, True, ()),
    "mobilenetv2_050": (0.5, 1.0, True, ()),
    "mobilenetv2_075": (0.75, 1.0, True, ()),
    "mobilenetv2_100": (1.0, 1.0, True, ("mobilenet_v2",)),
    "mobilenetv2_110d": (1.1, 1.2, False, ()),
    "mobilenetv2_120d": (1.2, 1.4, False, ()),
    "mobilenetv2_140": (1.4, 1.0, True, ()),
}

VARIANTS = {
    name: Variant(
        MobileNetSpec(width_multiplier=width, depth_multiplier=depth, scale_ends=scale_ends),
        f"MobileNetV2, width {width}" + (f", depth {depth}" if depth != 1 else ""),
        "mobilenetv2",
        _PAPER,
        aliases=aliases,
    )
    for name, (width, depth, scale_ends, aliases) in _TIMM.items()
}
VARIANTS |= {
    f"keras_mobilenetv2_{round(100 * width):03d}": Variant(
        MobileNetSpec(width_multiplier=width, **_KERAS),
        f"MobileNetV2 of keras.applications, alpha {width}",
        "mobilenetv2",
        _PAPER,
        preprocessing="minus_one_to_one",
    )
    for width in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
}
