"""Names of the weights of ResNets v2, whose blocks normalise first, in timm, keras.applications and KerasHub."""

from __future__ import annotations

import re
from typing import Any

from resnet_backbones.backbones.block_registry import find_block

_BLOCK = re.compile(r"stage(\d+)_block(\d+)_(.+)")
_NUMBERED = re.compile(r"(conv|bn)(\d)")
_STEM = re.compile(r"stem_(conv|bn)(\d)")


def applies_to(spec: Any) -> bool:
    """Whether the spec's blocks normalise first."""
    return find_block(spec.block, load=False).preactivation


def timm(layer: str, spec: Any) -> str:
    """The timm module of one of our layers: ``stage2_block1_bn3`` -> ``stages.1.blocks.0.norm3``."""
    if match := _STEM.fullmatch(layer):
        kind = match[1].replace("bn", "norm")
        return f"stem.{kind}{match[2]}" if spec.stem.startswith("deep") else f"stem.{kind}"
    if match := _BLOCK.fullmatch(layer):
        stage, block, part = match.groups()
        part = part.replace("bn", "norm").replace("shortcut_", "downsample.")
        return f"stages.{int(stage) - 1}.blocks.{int(block) - 1}.{part}"
    return {"final_bn": "norm", "classifier": "head.fc"}.get(layer, layer)


def keras_applications(layer: str, spec: Any) -> str:
    """Their layer of one of our layers: ``stage2_block1_bn1`` -> ``conv3_block1_preact_bn``."""
    if match := _BLOCK.fullmatch(layer):
        stage, block, part = match.groups()
        return f"conv{int(stage) + 1}_block{block}_{_keras_part(part, 'preact')}"
    return {"stem_conv1": "conv1_conv", "final_bn": "post_bn", "classifier": "predictions"}.get(layer, layer)


def keras_hub(layer: str, spec: Any) -> str:
    """KerasHub's layer of one of our layers: ``stage2_block1_bn1`` -> ``stack1_block0_pre_activation_bn``."""
    if match := _STEM.fullmatch(layer):
        return f"conv{match[2]}_{match[1]}"
    if match := _BLOCK.fullmatch(layer):
        stage, block, part = match.groups()
        return f"stack{int(stage) - 1}_block{int(block) - 1}_{_keras_part(part, 'pre_activation')}"
    return {"final_bn": "post_bn", "classifier": "predictions"}.get(layer, layer)


def _keras_part(part: str, first: str) -> str:
    """Within a block. Their batch norms carry the number of the convolution before them, ours of the one behind."""
    if part == "shortcut_conv":
        return "0_conv"
    if match := _NUMBERED.fullmatch(part):
        kind, number = match[1], int(match[2]) - (match[1] == "bn")
        return f"{number}_{kind}" if number else f"{first}_{kind}"
    return part
