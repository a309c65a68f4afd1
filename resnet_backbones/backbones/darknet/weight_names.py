"""Names of Darknets' and CSPNets' weights in timm and KerasHub."""

from __future__ import annotations

import re
from typing import Any

from resnet_backbones.backbones.spec import renamed

_STAGE = re.compile(r"stage(\d+)_(down|expand|through|join)_(conv|bn)")
_STEM = re.compile(r"stem_(conv|bn)(\d)")
_NUMBERED = re.compile(r"(conv|bn)(\d)")
_SE = {"se_reduce": "fc1", "se_expand": "fc2"}

_TIMM = {"down": "conv_down", "expand": "conv_exp", "through": "conv_transition_b", "join": "conv_transition"}
_HUB_KINDS = {"plain": "dark", "csp": "csp", "cs3": "cs3"}
_HUB = {
    "down_conv": "conv_down_1",
    "down_bn": "bn_1",
    "expand_conv": "conv_exp",
    "expand_bn": "bn_2",
    "through_conv": "conv_transition_b",
    "through_bn": "transition_b_bn",
    "join_conv": "conv_transition",
    "join_bn": "transition_bn",
}


def timm(layer: str, spec: Any) -> str:
    """The timm module of one of our layers: ``stage2_block1_conv2`` -> ``stages.1.blocks.0.conv2.conv``."""
    if match := _STEM.fullmatch(layer):
        return f"stem.conv{match[2]}.{match[1]}"
    if match := _STAGE.fullmatch(layer):
        stage, place, kind = match.groups()
        # timm's pooling stands first in a sequence with the convolution.
        pooled = ".1" if place == "down" and spec.down == "avg_pool" else ""
        return f"stages.{int(stage) - 1}.{_TIMM[place]}{pooled}.{kind}"
    within = "stages.{}.blocks.{}.{}".format
    rest = {"classifier": "head.fc"}
    return renamed(layer, rest, lambda stage, block, part: within(stage - 1, block - 1, _timm_part(part, spec)))


def _timm_part(part: str, spec: Any) -> str:
    """Within a block."""
    if match := _NUMBERED.fullmatch(part):
        return f"conv{match[2]}.{match[1]}"
    attention = "attn2" if spec.block == "bottleneck" else "attn"
    return f"{attention}.{_SE[part]}" if part in _SE else part


def keras_hub(layer: str, spec: Any) -> str:
    """KerasHub's layer: ``stage2_block1_conv2`` -> ``stage_1_block_0_dark_block_conv_2``."""
    if match := _STEM.fullmatch(layer):
        return f"csp_stem_{match[1]}_{int(match[2]) - 1}"
    if match := _STAGE.fullmatch(layer):
        stage, place, kind = match.groups()
        return f"stage_{int(stage) - 1}_{_HUB_KINDS[spec.stage]}_{_HUB[f'{place}_{kind}']}"

    def within(stage: int, block: int, part: str) -> str:
        return f"stage_{stage - 1}_block_{block - 1}_" + _NUMBERED.sub(rf"{spec.block}_block_\1_\2", part)

    return renamed(layer, {"classifier": "predictions"}, within)
