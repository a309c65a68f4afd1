"""Residual networks: stem, pooling, stages of one block (https://arxiv.org/abs/1512.03385)."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.block_registry import BlockEntry, find_block
from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common import STEM_POOLS, STEMS
from resnet_backbones.backbones.spec import BlockPlan


def build(net: Parts, x: Any) -> tuple[dict[str, str], Any]:
    """Level P1 leaves the stem, P2, P3 ... end the stages.

    Blocks that normalise first (v2) leave bare sums. A level is then given after the norm and activation that the next
    block begins with, at the level's own stride, and the network ends in a norm and activation of its own; with
    ``raw_levels`` the levels are the sums. P1 is the bare stem there, unless it is not pooled.

    Args:
        net: what adds the layers.
        x: the image, (batch, height, width, channels).

    Returns:
        Level -> name of the layer it ends in, and the last feature map.
    """
    spec = net.spec
    block = find_block(spec.block)
    bare = block.preactivation
    stem = STEMS[spec.stem](net, x, bare=bare)
    x = STEM_POOLS[spec.pool](net, stem, bare=bare)
    level, levels = "P1", {"P1": net.layer_name(stem)}
    waiting = bare and not spec.raw_levels and x is stem  # for the next block to say its activated input's name
    for number, plans in enumerate(_plans_by_level(spec), start=2):
        for plan in plans:
            x = _checked(block, block.build(net, x, plan), plan)
            if waiting:
                levels[level], waiting = _activated_input(net, block, plan), False
        level = f"P{number}"
        levels[level] = net.layer_name(x)
        waiting = bare and not spec.raw_levels
    if bare:
        x = net.act(net.norm(x, "final", ""), "final_act")
        levels[level] = net.layer_name(x) if waiting else levels[level]
    return levels, x


def _plans_by_level(spec: Any) -> list[list[BlockPlan]]:
    """The blocks up to each level: a stage's, or, where stages stride in their last block, up to the next stride."""
    stages = spec.plan()
    if spec.stride_in_last:
        for stage, following, strides in zip(stages, stages[1:], spec.strides, strict=False):
            if strides > 1:
                following.insert(0, stage.pop())
    return stages


def _activated_input(net: Parts, block: BlockEntry, plan: BlockPlan) -> str:
    if plan.name not in net.preactivations:
        raise ValueError(
            f"block {block.name!r} is registered with preactivation=True and did not call net.preactivate(x, plan) at "
            f"{plan.name}: let it begin with that, or register it without (owner: {block.owner})."
        )
    return net.preactivations[plan.name]


def _checked(block: BlockEntry, x: Any, plan: BlockPlan) -> Any:
    if x.shape[-1] != block.expansion * plan.filters:
        raise ValueError(
            f"block {block.name!r} gave {x.shape[-1]} channels at {plan.name}; expansion={block.expansion} "
            f"says {block.expansion * plan.filters}: mend the block or its expansion (owner: {block.owner})."
        )
    return x
