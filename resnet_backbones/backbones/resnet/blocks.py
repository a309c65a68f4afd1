"""The residual blocks of ResNets, one function each: v1's, Res2Net's, and v2's, which normalise first."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common import attend, strided
from resnet_backbones.backbones.spec import BlockPlan


def basic(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """3x3 (strided) - 3x3 - attention, plus the shortcut; ``plan.filters`` channels.

    Raises:
        ValueError: the spec asks for groups, which this block has none of.
    """
    refuse(net.spec, "basic", "groups", "group_width", hint="the block 'bottleneck' has them")
    y = strided(net, x, plan.filters // net.spec.reduce_first, 3, plan, 1)
    y = net.conv(y, plan.filters, 3, plan.name, 2, dilation=plan.dilation)
    y = attend(net, net.norm(y, plan.name, 2, zero=True), plan.name)
    return net.merge(y, net.shortcut(x, plan, plan.filters), plan)


EXPANSION = 4


def bottleneck(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """1x1 - 3x3 (strided: "v1.5"; in groups: ResNeXt) - 1x1 - attention, plus the shortcut.

    It has ``4 * plan.filters`` channels. With ``stride_in_1x1`` the stride is on the first 1x1 convolution, as in
    the paper.
    """
    spec = net.spec
    channels = EXPANSION * plan.filters
    width = grouped_width(spec, plan)
    first = width // spec.reduce_first
    if spec.stride_in_1x1:
        y = strided(net, x, first, 1, plan, 1)
        y = net.conv_norm_act(y, width, 3, plan.name, 2, dilation=plan.first_dilation, groups=spec.groups)
    else:
        y = net.conv_norm_act(x, first, 1, plan.name, 1)
        y = strided(net, y, width, 3, plan, 2, groups=spec.groups)
    y = net.norm(net.conv(y, channels, 1, plan.name, 3), plan.name, 3, zero=True)
    return net.merge(attend(net, y, plan.name), net.shortcut(x, plan, channels), plan)


def grouped_width(spec: Any, plan: BlockPlan) -> int:
    """Channels of the block's 3x3 convolution: ``group_width`` (for 64 filters) times ``groups``."""
    return max(plan.filters * spec.group_width // 64, 1) * spec.groups


def bottle2neck(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """1x1 - ``scale`` pieces of the channels - 1x1 - attention, plus the shortcut; ``4 * plan.filters`` channels.

    All pieces but the last pass a 3x3 convolution each, and in blocks that keep their shape each is first added the
    result of the one before. The last is handed on, in blocks that change shape averaged over 3x3 pixels.

    Raises:
        ValueError: the spec asks for something this block has no form of.
    """
    refuse(net.spec, "bottle2neck", "antialias", "reduce_first", "stride_in_1x1", hint="the block 'bottleneck' has it")
    spec = net.spec
    channels = EXPANSION * plan.filters
    changes_shape = plan.strides > 1 or x.shape[-1] != channels
    width = grouped_width(spec, plan)
    y = net.conv_norm_act(x, width * spec.scale, 1, plan.name, 1)
    pieces = [
        net.channel_slice(y, f"{plan.name}_piece{number}", start, start + width) if spec.scale > 1 else y
        for number, start in enumerate(range(0, width * spec.scale, width), start=1)
    ]
    done: list[Any] = []
    for number, piece in enumerate(pieces[: max(spec.scale - 1, 1)], start=1):
        if done and not changes_shape:
            piece = net.sum([done[-1], piece], f"{plan.name}_sum2_{number}")
        piece = net.conv_norm_act(
            piece,
            width,
            3,
            plan.name,
            f"2_{number}",
            strides=plan.strides,
            dilation=plan.first_dilation,
            groups=spec.groups,
        )
        done.append(piece)
    if spec.scale > 1:
        done.append(_averaged(net, pieces[-1], plan) if changes_shape else pieces[-1])
    y = net.concat(done, f"{plan.name}_concat") if len(done) > 1 else done[0]
    y = net.norm(net.conv(y, channels, 1, plan.name, 3), plan.name, 3, zero=True)
    return net.merge(attend(net, y, plan.name), net.shortcut(x, plan, channels), plan)


def _averaged(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """3x3 average pooling in which the zeros around the map take part, as in the weights that were published."""
    x = net.pad(x, f"{plan.name}_pool_pad", ((1, 1), (1, 1)))
    return net.avg_pool(x, f"{plan.name}_pool", 3, plan.strides)


def preact_basic(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """Norm, activation - 3x3 (strided) - norm, activation - 3x3 - attention, plus the shortcut: ``plan.filters``.

    Raises:
        ValueError: the spec asks for something this block has no form of.
    """
    hint = "other blocks have it"
    refuse(net.spec, "preact_basic", "groups", "group_width", "scale", "reduce_first", "antialias", hint=hint)
    activated = net.preactivate(x, plan)
    y = net.conv(
        activated, plan.filters, 3, plan.name, 1, strides=plan.strides, dilation=plan.first_dilation, bias=False
    )
    y = net.act(net.norm(y, plan.name, 2), f"{plan.name}_act2")
    y = attend(net, net.conv(y, plan.filters, 3, plan.name, 2, dilation=plan.dilation), plan.name)
    return net.merge(y, net.shortcut(x, plan, plan.filters, activated=activated), plan, act=False)


def preact_bottleneck(net: Parts, x: Any, plan: BlockPlan) -> Any:
    """1x1 - 3x3 (strided) - 1x1, each after norm and activation - attention, plus the shortcut; ``4 * plan.filters``.

    With ``stride_in_1x1`` the stride is on the first 1x1 convolution.

    Raises:
        ValueError: the spec asks for something this block has no form of.
    """
    spec = net.spec
    refuse(net.spec, "preact_bottleneck", "scale", "reduce_first", "antialias", hint="other blocks have it")
    first, second = (plan.strides, 1) if spec.stride_in_1x1 else (1, plan.strides)
    channels, width = EXPANSION * plan.filters, grouped_width(spec, plan)
    activated = net.preactivate(x, plan)
    y = net.conv(activated, width, 1, plan.name, 1, strides=first, bias=False)
    y = net.act(net.norm(y, plan.name, 2), f"{plan.name}_act2")
    options = {"strides": second, "dilation": plan.first_dilation, "groups": spec.groups}
    y = net.conv(y, width, 3, plan.name, 2, bias=False, **options)
    y = net.act(net.norm(y, plan.name, 3), f"{plan.name}_act3")
    y = attend(net, net.conv(y, channels, 1, plan.name, 3), plan.name)
    return net.merge(y, net.shortcut(x, plan, channels, activated=activated), plan, act=False)


def refuse(spec: Any, block: str, *fields: str, hint: str) -> None:
    """Raises where a spec asks a block for something it has no form of.

    Args:
        spec: the backbone's spec.
        block: the block's name.
        fields: fields of the spec that must have their default values.
        hint: what to do instead.

    Raises:
        ValueError: one of them has another value.
    """
    for field in fields:
        value, default = getattr(spec, field), type(spec).__dataclass_fields__[field].default
        if value != default:
            raise ValueError(f"block {block!r} knows no {field}: it must be {default!r}, not {value!r}; {hint}.")
