"""Specs of small networks made of the same parts as large ones: few and narrow blocks, one without a projection."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from resnet_backbones.backbones.darknet.spec import DarkNetSpec
from resnet_backbones.backbones.mobilenet.spec import MobileNetSpec
from resnet_backbones.backbones.regnet.spec import RegNetSpec
from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.spec import BackboneSpec

# Of no consequence for what a network is made of; equal values let specs that differ in nothing else coincide.
SETTINGS = {"bn_momentum": 0.9, "bn_epsilon": 1e-3, "preprocessing": None, "drop_path_rate": 0.0}


@functools.singledispatch
def shrunken(spec: BackboneSpec) -> BackboneSpec:
    """A small spec of the parts that ``spec`` has. A family nobody has taught it stays as large as it is."""
    return spec.replace(**SETTINGS)


@shrunken.register
def _(spec: ResNetSpec) -> ResNetSpec:
    stages = len(spec.depths)
    # A second block in a stage has the identity as its shortcut.
    depths = [2] * stages if spec.stride_in_last else [1, 2, *[1] * (stages - 2)]
    widths = [16 + 8 * stage for stage in range(stages)]
    sizes = {"depths": depths, "widths": widths, "stem_width": 8, "attention_ratio": 0.25}
    # Parts that stand side by side need not be tried in every combination: attention knows neither groups nor stems.
    parts: dict[str, Any] = {"groups": min(spec.groups, 4), "scale": min(spec.scale, 3)}
    if spec.attention and not spec.antialias:
        parts |= {"groups": 1, "stem": "7x7", "shortcut": "conv"}
    elif spec.stem == "deep_tiered" and spec.block not in ("basic", "bottleneck"):
        parts |= {"stem": "deep"}
    width = 64 if parts["groups"] == parts["scale"] == 1 else 32
    return spec.replace(**SETTINGS, **sizes, **parts, group_width=width)


@shrunken.register
def _(spec: MobileNetSpec) -> MobileNetSpec:
    stages = []
    for number, stage in enumerate(spec.stages):
        blocks = 2 if number == 2 else 1
        expansions = [min(2.0, expansion) for expansion in stage.expansions[:blocks]]
        stages.append(dataclasses.replace(stage, expansions=expansions, kernel=min(stage.kernel, 5)))
    small = {"width_multiplier": 0.25, "depth_multiplier": 1.0, "stem_width": 16, "head_width": 16}
    return spec.replace(**SETTINGS, **small, stages=stages)


@shrunken.register
def _(spec: RegNetSpec) -> RegNetSpec:
    sizes = {"depth": 6, "w0": 8, "wa": 24.0, "wm": 2.0, "group_width": 8, "stem_width": 8}  # stages of 8, 32, 64, 128
    return spec.replace(**SETTINGS, **sizes)


@shrunken.register
def _(spec: DarkNetSpec) -> DarkNetSpec:
    stages = len(spec.depths)
    groups = [min(groups, 4) for groups in spec.each("groups")]
    return spec.replace(
        **SETTINGS,
        depths=[1, 2, *[1] * (stages - 2)],
        widths=[32] * (stages - 1) + [64],
        stem_widths=[8] * len(spec.stem_widths),
        attention_ratio=0.25,
        groups=groups[0] if len(set(groups)) == 1 else groups,
    )
