"""MobileNetV2, MobileNetV3 and EfficientNet-Lite, by timm's names.

The number is the width in hundredths. ``tf_`` and ``keras_`` are padded as TensorFlow does, with epsilon 1e-3.

- MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381): ``d`` is deeper too (Wightman's timm).
- MobileNetV3 (Howard et al. 2019, https://arxiv.org/abs/1905.02244): ``minimal`` has no 5x5 kernels, no
  squeeze-and-excitation, ReLU only; ``mobilenet_v3_`` are torchvision's, epsilon 1e-3.
- EfficientNet-Lite 0 to 4: EfficientNets for int8, with ReLU6 and without squeeze-and-excitation. The published weights
  are for ``tf_``. Tan and Le 2019, https://arxiv.org/abs/1905.11946; Liu 2020,
  https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resnet_backbones.backbones.mobilenet.spec import MobileNetSpec, MobileStage
from resnet_backbones.backbones.spec import Variant

_V2_PAPER = "Sandler et al. 2018, https://arxiv.org/abs/1801.04381"
_TF: dict[str, Any] = {"padding": "same", "bn_epsilon": 1e-3}

# name: (width, depth, scale_ends, aliases)
_V2_TABLE = {
    "mobilenetv2_035": (0.35, 1.0, True, ()),
    "mobilenetv2_050": (0.5, 1.0, True, ()),
    "mobilenetv2_075": (0.75, 1.0, True, ()),
    "mobilenetv2_100": (1.0, 1.0, True, ("mobilenet_v2",)),
    "mobilenetv2_110d": (1.1, 1.2, False, ()),
    "mobilenetv2_120d": (1.2, 1.4, False, ()),
    "mobilenetv2_140": (1.4, 1.0, True, ()),
}

_V2 = {
    name: Variant(
        MobileNetSpec(width_multiplier=width, depth_multiplier=depth, scale_ends=scale_ends),
        f"MobileNetV2, width {width}" + (f", depth {depth}" if depth != 1 else ""),
        "mobilenetv2",
        _V2_PAPER,
        aliases=aliases,
    )
    for name, (width, depth, scale_ends, aliases) in _V2_TABLE.items()
}
_V2 |= {
    f"keras_mobilenetv2_{round(100 * width):03d}": Variant(
        MobileNetSpec(width_multiplier=width, **_TF),
        f"MobileNetV2 of keras.applications, alpha {width}",
        "mobilenetv2",
        _V2_PAPER,
        preprocessing="minus_one_to_one",
    )
    for width in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
}


_V3_PAPER = "Howard et al. 2019, https://arxiv.org/abs/1905.02244"
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
_TORCHVISION: dict[str, Any] = {"bn_epsilon": 1e-3}

# name: (size, width, options, minimal, aliases)
_V3_TABLE: dict[str, tuple[str, float, dict[str, Any], bool, tuple[str, ...]]] = {
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
    return Variant(spec, description, "mobilenetv3", _V3_PAPER, preprocessing=preprocessing, aliases=aliases)


_V3 = {name: _variant(*line) for name, line in _V3_TABLE.items()}


_LITE_PAPER = "Tan and Le 2019, https://arxiv.org/abs/1905.11946"

_LITE_STAGES = (
    MobileStage("separable", 16),
    MobileStage("inverted", 24, (6,) * 2, stride=2),
    MobileStage("inverted", 40, (6,) * 2, kernel=5, stride=2),
    MobileStage("inverted", 80, (6,) * 3, stride=2),
    MobileStage("inverted", 112, (6,) * 3, kernel=5),
    MobileStage("inverted", 192, (6,) * 4, kernel=5, stride=2),
    MobileStage("inverted", 320, (6,)),
)

# number: (width, depth, input size: timm's; the blog says 280 and 300 for the last two)
_LITE_TABLE = {0: (1.0, 1.0, 224), 1: (1.0, 1.1, 240), 2: (1.1, 1.2, 260), 3: (1.2, 1.4, 300), 4: (1.4, 1.8, 380)}

_LITE_SPECS = {
    number: MobileNetSpec(stages=_LITE_STAGES, width_multiplier=width, depth_multiplier=depth, scale_ends=False)
    for number, (width, depth, _) in _LITE_TABLE.items()
}

_LITE = {
    f"efficientnet_lite{number}": Variant(
        spec, f"EfficientNet-Lite{number}", "efficientnet_lite", _LITE_PAPER, input_size=_LITE_TABLE[number][2]
    )
    for number, spec in _LITE_SPECS.items()
}
_LITE |= {
    f"tf_efficientnet_lite{number}": Variant(
        spec.replace(**_TF),
        f"EfficientNet-Lite{number}, TensorFlow's padding",
        "efficientnet_lite",
        _LITE_PAPER,
        input_size=_LITE_TABLE[number][2],
        preprocessing="minus_one_to_one",
    )
    for number, spec in _LITE_SPECS.items()
}

VARIANTS = {**_V2, **_V3, **_LITE}
