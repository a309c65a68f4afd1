"""EfficientNet-Lite 0 to 4: EfficientNets for int8, with ReLU6 and without squeeze-and-excitation; timm's names.

``tf_`` is padded as TensorFlow does, with epsilon 1e-3: the published weights are for these.

Sources: Tan and Le 2019, https://arxiv.org/abs/1905.11946; Liu 2020,
https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html
"""

from __future__ import annotations

from resnet_backbones.backbones.mobilenet.spec import MobileNetSpec, MobileStage
from resnet_backbones.backbones.variant import Variant

_PAPER = "Tan and Le 2019, https://arxiv.org/abs/1905.11946"
_TF = {"padding": "same", "bn_epsilon": 1e-3}

_STAGES = (
    MobileStage("separable", 16),
    MobileStage("inverted", 24, (6,) * 2, stride=2),
    MobileStage("inverted", 40, (6,) * 2, kernel=5, stride=2),
    MobileStage("inverted", 80, (6,) * 3, stride=2),
    MobileStage("inverted", 112, (6,) * 3, kernel=5),
    MobileStage("inverted", 192, (6,) * 4, kernel=5, stride=2),
    MobileStage("inverted", 320, (6,)),
)

# number: (width, depth, input size: timm's; the blog says 280 and 300 for the last two)
_TABLE = {0: (1.0, 1.0, 224), 1: (1.0, 1.1, 240), 2: (1.1, 1.2, 260), 3: (1.2, 1.4, 300), 4: (1.4, 1.8, 380)}

_SPECS = {
    number: MobileNetSpec(stages=_STAGES, width_multiplier=width, depth_multiplier=depth, scale_ends=False)
    for number, (width, depth, _) in _TABLE.items()
}

VARIANTS = {
    f"efficientnet_lite{number}": Variant(
        spec, f"EfficientNet-Lite{number}", "efficientnet_lite", _PAPER, input_size=_TABLE[number][2]
    )
    for number, spec in _SPECS.items()
}
VARIANTS |= {
    f"tf_efficientnet_lite{number}": Variant(
        spec.replace(**_TF),
        f"EfficientNet-Lite{number}, TensorFlow's padding",
        "efficientnet_lite",
        _PAPER,
        input_size=_TABLE[number][2],
        preprocessing="minus_one_to_one",
    )
    for number, spec in _SPECS.items()
}
