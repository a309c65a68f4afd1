"""Names of ResNets' weights in timm, torchvision, keras.applications and KerasHub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resnet_backbones.backbones.block_registry import find_block
from resnet_backbones.backbones.spec import renamed

_NUMBERED = re.compile(r"(conv|bn)(\d)")
_STEM = re.compile(r"stem_(conv|bn)(\d)")
_PIECE = re.compile(r"(conv|bn)2_(\d+)")  # Res2Net's

_KERAS_ENDS = {"final_bn": "post_bn", "classifier": "predictions"}
_TIMM_ATTENTION = {
    "se_reduce": "fc1",
    "se_expand": "fc2",
    "eca_conv": "conv",
    "cbam_reduce": "channel.fc1",
    "cbam_expand": "channel.fc2",
    "cbam_conv": "spatial.conv.conv",
    "cbam_bn": "spatial.conv.bn",
}


def timm(layer: str, spec: Any) -> str:
    """The timm module of one of our layers: ``stage2_block1_conv3`` -> ``layer2.0.conv3``."""
    if _is_v2(spec):
        return _timm_v2(layer, spec)
    if layer.startswith("stem_pool_"):  # a sequence: conv, filter (if antialiased), bn, act
        return f"maxpool.{0 if layer.endswith('conv') else 1 + (spec.antialias is not None)}"
    if match := _STEM.fullmatch(layer):
        if not spec.stem.startswith("deep"):
            return f"{match[1]}1"
        # conv1 is a sequence: conv, bn, act, conv, bn, act, conv; the third batch norm stands after it.
        return "bn1" if layer == "stem_bn3" else f"conv1.{3 * (int(match[2]) - 1) + (match[1] == 'bn')}"
    within = "layer{}.{}.{}".format
    return renamed(
        layer, {"classifier": "fc"}, lambda stage, block, part: within(stage, block - 1, _timm_part(part, spec))
    )


def _timm_v2(layer: str, spec: Any) -> str:
    """Of ResNets v2, whose blocks normalise first: ``stage2_block1_bn3`` -> ``stages.1.blocks.0.norm3``."""
    if match := _STEM.fullmatch(layer):
        kind = match[1].replace("bn", "norm")
        return f"stem.{kind}{match[2]}" if spec.stem.startswith("deep") else f"stem.{kind}"
    rest = {"final_bn": "norm", "classifier": "head.fc"}

    def in_block(stage: int, block: int, part: str) -> str:
        part = part.replace("bn", "norm").replace("shortcut_", "downsample.")
        return f"stages.{stage - 1}.blocks.{block - 1}.{part}"

    return renamed(layer, rest, in_block)


def _timm_part(part: str, spec: Any) -> str:
    """Within a block."""
    if part in _TIMM_ATTENTION:
        return f"se.{_TIMM_ATTENTION[part]}"  # whatever the attention, the module is called se
    if match := _PIECE.fullmatch(part):
        return f"{match[1]}s.{int(match[2]) - 1}"
    # The pooling stands first in timm's average-pooled shortcut, also where it pools nothing.
    pooled = int(spec.shortcut == "avg_pool")
    return {"shortcut_conv": f"downsample.{pooled}", "shortcut_bn": f"downsample.{pooled + 1}"}.get(part, part)


def torchvision(layer: str, spec: Any) -> str:
    """The torchvision module of one of our layers; the names are those timm took over."""
    return timm(layer, spec)


def keras_applications(layer: str, spec: Any) -> str:
    """Their layer of one of our layers: ``stage2_block1_conv3`` -> ``conv3_block1_3_conv``."""
    within = "conv{}_block{}_{}".format
    rest = {"stem_conv1": "conv1_conv", "stem_bn1": "conv1_bn", **_KERAS_ENDS}
    return renamed(layer, rest, lambda stage, block, part: within(stage + 1, block, _keras_part(part, spec, "preact")))


def keras_hub(layer: str, spec: Any) -> str:
    """KerasHub's layer: ``stage2_block1_conv3`` -> ``stack1_block0_3_conv``."""
    if match := _STEM.fullmatch(layer):
        return f"conv{match[2]}_{match[1]}"

    def in_block(stage: int, block: int, part: str) -> str:
        return f"stack{stage - 1}_block{block - 1}_{_keras_part(part, spec, 'pre_activation')}"

    return renamed(layer, _KERAS_ENDS, in_block)


def _keras_part(part: str, spec: Any, first: str) -> str:
    """Within a block: ``conv3`` -> ``3_conv``; the shortcut has number 0.

    In v2 their batch norms carry the number of the convolution before them, ours of the one after.
    """
    if match := _NUMBERED.fullmatch(part):
        kind, number = match[1], int(match[2]) - (match[1] == "bn" and _is_v2(spec))
        return f"{number or first}_{kind}"
    return {"shortcut_conv": "0_conv", "shortcut_bn": "0_bn"}.get(part, part)


def prepare_keras_applications(arrays: Mapping[str, Any], spec: Any) -> Mapping[str, Any]:
    """Folds biases into the batch norm that follows, where our convolutions have none (``conv_bias=False``).

    Batch norm subtracts the mean right after the bias is added, so the bias taken from the moving mean gives the same.
    """
    if getattr(spec, "conv_bias", False):
        return arrays
    folded = dict(arrays)
    for key in arrays:
        mean = key.replace("_conv.bias", "_bn.moving_mean")
        if key.endswith("_conv.bias") and mean in folded:
            folded[mean] = folded[mean] - folded.pop(key)
    return folded


def _is_v2(spec: Any) -> bool:
    """Whether the spec's blocks normalise first."""
    return find_block(spec.block, load=False).preactivation
