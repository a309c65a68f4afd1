"""Names of MobileNets' and EfficientNet-Lites' weights in timm, torchvision, keras.applications and KerasHub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_backbones.errors import WeightsMismatchError

_BLOCK = re.compile(r"stage(\d+)_block(\d+)_(.+)")

# Our part of a block -> timm's, by kind of block. A separable block has no expansion, so its numbers start lower.
_TIMM_PARTS = {
    "inverted": {
        "expand_conv": "conv_pw",
        "expand_bn": "bn1",
        "depthwise": "conv_dw",
        "depthwise_bn": "bn2",
        "project_conv": "conv_pwl",
        "project_bn": "bn3",
    },
    "separable": {"depthwise": "conv_dw", "depthwise_bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"},
    "conv": {"conv": "conv", "bn": "bn1"},
}
_TIMM_SE = {"se_reduce": "se.conv_reduce", "se_expand": "se.conv_expand"}
_TIMM_REST = {"stem_conv1": "conv_stem", "stem_bn1": "bn1", "head_conv": "conv_head", "head_bn": "bn2"}

_KERAS_V2_REST = {
    "stem_conv1": "Conv1",
    "stem_bn1": "bn_Conv1",
    "head_conv": "Conv_1",
    "head_bn": "Conv_1_bn",
    "classifier": "predictions",
}
_KERAS_V3_REST = {"stem_conv1": "conv", "stem_bn1": "conv_bn", "head_conv": "conv_2", "classifier": "logits"}
_KERAS_V3_PARTS = {
    "expand_conv": "expand",
    "project_conv": "project",
    "se_reduce": "squeeze_excite_conv",
    "se_expand": "squeeze_excite_conv_1",
}
_HUB_V3_REST = {
    "stem_conv1": "input_conv",
    "stem_bn1": "input_batch_norm",
    "head_conv": "classifier_conv",
    "classifier": "predictions",
}
_HUB_LITE_REST = {"stem_conv1": "stem_conv", "stem_bn1": "stem_bn", "head_conv": "top_conv", "head_bn": "top_bn"}
_HUB_LITE_PARTS = {"depthwise": "dwconv", "depthwise_bn": "dwconv_bn", "project_conv": "project"}


def timm(layer: str, spec: Any) -> str:
    """The timm module of one of our layers: ``stage2_block1_expand_conv`` -> ``blocks.1.0.conv_pw``."""
    place = _Place.of(layer, spec)
    if place is None:
        return _TIMM_REST.get(layer, layer)
    parts = {**_TIMM_PARTS[place.kind], **_TIMM_SE}
    return f"blocks.{place.stage - 1}.{place.block - 1}.{parts.get(place.part, place.part)}"


def torchvision(layer: str, spec: Any) -> str:
    """The torchvision module of one of our layers: ``stage2_block1_expand_conv`` -> ``features.2.conv.0.0``."""
    pooled = spec.head == "pooled"  # MobileNetV3, which they build otherwise than V2
    place = _Place.of(layer, spec)
    if place is None:
        last = 1 + sum(len(stage) for stage in spec.plan())
        rest = {"stem_conv1": "features.0.0", "stem_bn1": "features.0.1"}
        if pooled:
            rest |= {"head_conv": "classifier.0", "classifier": "classifier.3"}
        else:
            rest |= {"head_conv": f"features.{last}.0", "head_bn": f"features.{last}.1", "classifier": "classifier.1"}
        return rest.get(layer, layer)
    if place.kind == "conv":
        return f"features.{place.number}.{int(place.part == 'bn')}"
    steps = ["expand"] * (place.kind == "inverted") + ["depthwise"] + ["se"] * place.squeezes + ["project"]
    step, _, what = place.part.partition("_")
    at = f"features.{place.number}.{'block' if pooled else 'conv'}"
    index = steps.index(step) if step in steps else 0
    if step == "se":
        return f"{at}.{index}.fc{1 if what == 'reduce' else 2}"
    norm = int(what == "bn")
    # V2's projection and its batch norm are members of the block itself, not of a sequence.
    return f"{at}.{index + norm}" if step == "project" and not pooled else f"{at}.{index}.{norm}"


def keras_applications(layer: str, spec: Any) -> str:
    """Their layer of one of our layers: ``stage2_block1_expand_conv`` -> ``block_1_expand`` (V2)."""
    pooled = spec.head == "pooled"
    place = _Place.of(layer, spec)
    if place is None:
        return (_KERAS_V3_REST if pooled else _KERAS_V2_REST).get(layer, layer)
    if place.kind == "conv":
        return f"conv_1{'_bn' if place.part == 'bn' else ''}"
    first = place.number == 1
    if pooled:
        prefix = "expanded_conv_" if first else f"expanded_conv_{place.number - 1}_"
        return prefix + _KERAS_V3_PARTS.get(place.part, place.part)
    prefix = "expanded_conv_" if first else f"block_{place.number - 1}_"
    return prefix + place.part.removesuffix("_conv").replace("_bn", "_BN")


def keras_hub(layer: str, spec: Any) -> str:
    """KerasHub's layer of one of our layers, of its MobileNet (V3) or its EfficientNet (Lite).

    ``stage2_block1_expand_conv`` -> ``block_1_0/block_1_0_conv1`` or ``block2a_expand_conv``.
    """
    pooled = spec.head == "pooled"
    place = _Place.of(layer, spec)
    if place is None:
        return {"classifier": "predictions", **(_HUB_V3_REST if pooled else _HUB_LITE_REST)}.get(layer, layer)
    if not pooled:
        part = _HUB_LITE_PARTS.get(place.part, place.part)
        return f"block{place.stage}{chr(ord('a') + place.block - 1)}_{part}"
    outer = f"block_{place.stage - 1}_{place.block - 1}"
    if place.kind == "conv":
        return f"{outer}/{outer}_{place.part}"
    if place.part in ("se_reduce", "se_expand"):
        inner = f"{outer}_{'squeeze_excite' if place.kind == 'separable' else 'se'}"
        return f"{outer}/{inner}/{inner}_conv_{place.part.removeprefix('se_')}"
    steps = ["expand"] * (place.kind == "inverted") + ["depthwise", "project"]
    step, _, what = place.part.partition("_")
    number = steps.index(step) + 1 if step in steps else 0
    return f"{outer}/{outer}_{'bn' if what == 'bn' else 'conv'}{number}"


def prepare_timm(arrays: Mapping[str, Any], spec: Any) -> Mapping[str, Any]:
    """Leaves out the head that the backbone does not have."""
    return _without_head(arrays, spec, timm)


def prepare_torchvision(arrays: Mapping[str, Any], spec: Any) -> Mapping[str, Any]:
    """Leaves out the head that the backbone does not have."""
    return _without_head(arrays, spec, torchvision)


def prepare_keras_applications(arrays: Mapping[str, Any], spec: Any) -> Mapping[str, Any]:
    """Gives tf_keras' names Keras 3's form and leaves out the head that the backbone does not have.

    Raises:
        WeightsMismatchError: the backbone pads as torch does, which shapes would not show.
    """
    if spec.head == "pooled":  # V3; in V2 the two agree
        arrays = {_keras_3_name(key): value for key, value in arrays.items()}
    theirs = {f"{keras_applications('stem_conv1', spec)}.kernel", f"{keras_applications('stem_bn1', spec)}.gamma"}
    if theirs <= set(arrays) and spec.padding != "same":
        raise WeightsMismatchError(
            "keras.applications' MobileNets pad as TensorFlow does (padding='same'), this backbone as torch does, so "
            "their weights would give other features. The catalogue has theirs: keras_mobilenetv2_100, "
            "keras_mobilenetv3_large_100 ..."
        )
    return _without_head(arrays, spec, keras_applications)


def prepare_keras_hub(arrays: Mapping[str, Any], spec: Any) -> Mapping[str, Any]:
    """Turns grouped kernels into depthwise ones and leaves out the head that the backbone does not have."""
    turned = {}
    for key, value in arrays.items():
        # Their MobileNet filters each channel with a convolution in groups: (height, width, 1, channels).
        grouped = key.startswith("block_") and key.endswith(".kernel") and np.ndim(value) == 4 and value.shape[2] == 1
        turned[key] = np.swapaxes(value, 2, 3) if grouped else value
    return _without_head(turned, spec, keras_hub)


class _Place:
    """Where a layer of ours stands: stage, block, part, and the block's number in the whole network, from 1."""

    def __init__(self, stage: int, block: int, part: str, spec: Any) -> None:
        self.stage, self.block, self.part = stage, block, part
        plans = spec.plan()
        plan = plans[stage - 1][block - 1]
        self.kind, self.squeezes = plan.kind, bool(plan.squeezed)
        self.number = sum(len(before) for before in plans[: stage - 1]) + block

    @classmethod
    def of(cls, layer: str, spec: Any) -> _Place | None:
        match = _BLOCK.fullmatch(layer)
        return cls(int(match[1]), int(match[2]), match[3], spec) if match else None


def _without_head(arrays: Mapping[str, Any], spec: Any, name_of: Any) -> Mapping[str, Any]:
    if spec.include_head:
        return arrays
    heads = tuple(f"{name_of(layer, spec)}." for layer in ("head_conv", "head_bn"))
    return {key: value for key, value in arrays.items() if not key.startswith(heads)}


def _keras_3_name(key: str) -> str:
    """``expanded_conv_1_squeeze_excite_conv_1`` for tf_keras' ``expanded_conv_1/squeeze_excite/Conv_1``."""
    return key.replace("BatchNorm", "bn").replace("/", "_").lower()
