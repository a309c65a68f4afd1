"""Names of RegNets' weights in timm, torchvision and keras.applications (tf_keras' has RegNets, Keras 3's has not)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resnet_backbones.backbones.spec import renamed
from resnet_backbones.errors import WeightsMismatchError

_TIMM = {
    "se_reduce": "se.fc1",
    "se_expand": "se.fc2",
    "shortcut_conv": "downsample.conv",
    "shortcut_bn": "downsample.bn",
    **{f"{kind}{number}": f"conv{number}.{kind}" for kind in ("conv", "bn") for number in (1, 2, 3)},
}
_TORCHVISION = {
    "se_reduce": "f.se.fc1",
    "se_expand": "f.se.fc2",
    "shortcut_conv": "proj.0",
    "shortcut_bn": "proj.1",
    **{
        f"{kind}{number}": f"f.{letter}.{int(kind == 'bn')}"
        for kind in ("conv", "bn")
        for number, letter in enumerate("abc", start=1)
    },
}
_KERAS = {
    "conv1": "conv_1x1_1",
    "bn1": "conv_1x1_1_bn",
    "conv2": "conv_3x3",
    "bn2": "conv_3x3_bn",
    "conv3": "conv_1x1_2",
    "bn3": "conv_1x1_2_bn",
    "se_reduce": "squeeze_and_excite_squeeze",
    "se_expand": "squeeze_and_excite_excite",
    "shortcut_conv": "skip_1x1",
    "shortcut_bn": "skip_bn",
}


def timm(layer: str, spec: Any) -> str:
    """The timm module of one of our layers: ``stage2_block1_conv3`` -> ``s2.b1.conv3.conv``."""
    rest = {"stem_conv1": "stem.conv", "stem_bn1": "stem.bn", "classifier": "head.fc"}
    return renamed(layer, rest, lambda stage, block, part: f"s{stage}.b{block}.{_TIMM.get(part, part)}")


def torchvision(layer: str, spec: Any) -> str:
    """The torchvision module: ``stage2_block1_conv3`` -> ``trunk_output.block2.block2-0.f.c.0``."""
    rest = {"stem_conv1": "stem.0", "stem_bn1": "stem.1", "classifier": "fc"}
    within = "trunk_output.block{0}.block{0}-{1}.{2}".format
    return renamed(layer, rest, lambda stage, block, part: within(stage, block - 1, _TORCHVISION.get(part, part)))


def keras_applications(layer: str, spec: Any) -> str:
    """Their layer without the model's name: ``stage2_block1_conv3`` -> ``Stage_1_YBlock_0_conv_1x1_2``."""
    rest = {"stem_conv1": "stem_conv", "stem_bn1": "stem_bn", "classifier": "head_dense"}
    within = f"Stage_{{}}_{'Y' if spec.se_ratio else 'X'}Block_{{}}_{{}}".format
    return renamed(layer, rest, lambda stage, block, part: within(stage - 1, block - 1, _KERAS.get(part, part)))


def prepare_keras_applications(arrays: Mapping[str, Any], spec: Any) -> Mapping[str, Any]:
    """Takes the model's name off their layers' names.

    Raises:
        WeightsMismatchError: the backbone pads as torch does and they as TensorFlow, which shapes would not show.
    """
    theirs = any("_Stage_0_" in name for name in arrays)  # asked about other libraries' arrays too, to tell them apart
    if theirs and spec.padding != "same":
        raise WeightsMismatchError(
            "keras.applications' RegNets pad as TensorFlow does, this backbone as torch does, so their weights would "
            "give other features: create it with padding='same', e.g. create_backbone('regnetx_002', padding='same')."
        )
    # Their dense layer is called head0head_dense, 1head_dense ..., whatever number Keras had at hand.
    return {re.sub(r"^.*?(Stage_|stem_|head_dense)", r"\1", name): value for name, value in arrays.items()}
