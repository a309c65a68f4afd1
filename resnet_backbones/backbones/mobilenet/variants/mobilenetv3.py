"""MobileNetV3 (Howard et al. 2019, https://arxiv.org/abs/1905.02244), by timm's names and torchvision's.

- the number is the width in hundredths
- ``tf_``: padded as TensorFlow does, epsilon 1e-3; keras.applications' are these
- ``minimal``: no 5x5 kernels, no squeeze-and-excitation, ReLU only
- ``mobilenet_v3_``: torchvision's, epsilon 1e-3
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resnet_backbones.backbones.mobilenet.spec import MobileNetSpec, MobileStage
from resnet_backbones.backbones.variant import Variant

_PAPER = "Howard et al. 2019, https://arxiv.org/abs/1905.02244"
_SE: Any = {"se_ratio": 0.25}
_RELU: Any = {"activation": "relu"}

_SMALL = (
    MobileStage("separable", 16, stride=2, **_SE, **_RELU),
    MobileStage("inverted", 24, (4.5, 3.67), stride=2, **_RELU),
    MobileStage("inverted", 40, (4, 6, 6), kernel=5, stride=2, **_SE),
    MobileStage("inverted", 48, (3, 3), kernel=5, **_SE),
    MobileStage("inverted", 96, (6, 6, 6), kernel=5, stride=2, **_SE),
    MobileStage("conv", 576, kernel=1),
)
_LARGE = (
    MobileStage("separable", 16, **_RELU),
    MobileStage("inverted", 24, (4, 3), stride=2, **_RELU),
    MobileStage("inverted", 40, (3, 3, 3), kernel=5, stride=2, **_SE, **_RELU),
    MobileStage("inverted", 80, (6, 2.5, 2.3, 2.3), stride=2),
    MobileStage("inverted", 112, (6, 6), **_SE),
    MobileStage("inverted", 160, (6, 6, 6), kernel=5, stride=2, **_SE),
    MobileStage("conv", 960, kernel=1),
)


def _minimal(stages: tuple[MobileStage, ...]) -> tuple[MobileStage, ...]:
    return tuple(replace(stage, kernel=min(stage.kernel, 3), se_ratio=0.0, activation=None) for stage in stages)


_SIZES: dict[str, Any] = {
    "small": {"stages": _SMALL, "head_width": 1024},
    "large": {"stages": _LARGE, "head_width": 1280},
}
_TIMM: dict[str, Any] = {}
_TF: dict[str, Any] = {"padding": "same", "bn_epsilon": 1e-3}
_TORCHVISION: dict[str, Any] = {"bn_epsilon": 1e-3}

# name: (size, width, options, minimal, aliases)
_TABLE: dict[str, tuple[str, float, dict[str, Any], bool, tuple[str, ...]]] = {
    "mobilenetv3_small_050": ("small", 0.5, _TIMM, False, ()),
    "mobilenetv3_small_075": ("small", 0.75, _TIMM, False, ()),
    "mobilenetv3_small_100": ("small", 1.0, _TIMM, False, ()),
    "mobilenetv3_large_075": ("large", 0.75, _TIMM, False, ()),
    "mobilenetv3_large_100": ("large", 1.0, _TIMM, False, ()),
    "mobilenet_v3_small": ("small", 1.0, _TORCHVISION, False, ()),
    "mobilenet_v3_large": ("large", 1.0, _TORCHVISION, False, ()),
    "tf_mobilenetv3_small_075": ("small", 0.75, _TF, False, ("keras_mobilenetv3_small_075",)),
    "tf_mobilenetv3_small_100": ("small", 1.0, _TF, False, ("keras_mobilenetv3_small_100",)),
    "tf_mobilenetv3_small_minimal_100": ("small", 1.0, _TF, True, ("keras_mobilenetv3_small_minimal_100",)),
    "tf_mobilenetv3_large_075": ("large", 0.75, _TF, False, ("keras_mobilenetv3_large_075",)),
    "tf_mobilenetv3_large_100": ("large", 1.0, _TF, False, ("keras_mobilenetv3_large_100",)),
    "tf_mobilenetv3_large_minimal_100": ("large", 1.0, _TF, True, ("keras_mobilenetv3_large_minimal_100",)),
}


def _variant(size: str, width: float, options: dict[str, Any], minimal: bool, aliases: tuple[str, ...]) -> Variant:
    fields = dict(_SIZES[size], activation="hard_swish")
    if minimal:
        fields.update(stages=_minimal(fields["stages"]), activation="relu")
    # Stem and head keep their widths whatever the multiplier.
    spec = MobileNetSpec(**fields, **options, stem_width=16, head="pooled", width_multiplier=width, scale_ends=False)
    made_by = " of torchvision" if options is _TORCHVISION else ", TensorFlow's padding" if options is _TF else ""
    description = f"MobileNetV3 {size}, width {width}{', minimal' if minimal else ''}{made_by}"
    preprocessing = "minus_one_to_one" if options is _TF else "imagenet"
    return Variant(spec, description, "mobilenetv3", _PAPER, preprocessing=preprocessing, aliases=aliases)


VARIANTS = {name: _variant(*line) for name, line in _TABLE.items()}
