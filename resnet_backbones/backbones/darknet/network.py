"""Darknets and cross stage partial networks: stem, then stages that stride first.

Sources: Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767; Wang et al. 2019, https://arxiv.org/abs/1911.11929
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts
from resnet_backbones.backbones.common import STEM_POOLS, squeeze_excite, squeezed
from resnet_backbones.backbones.darknet.spec import DarkPlan, DarkStagePlan


def build(net: Parts, x: Any) -> tuple[dict[str, str], Any]:
    """A level ends where the next stage (or the stem's pooling) strides; P1 has stride 2, stride 1 is no level.

    Args:
        net: what adds the layers.
        x: the image, (batch, height, width, channels).

    Returns:
        Level -> name of the layer it ends in, and the last feature map.
    """
    spec = net.spec
    for number, width in enumerate(spec.stem_widths, start=1):
        x = _stem_conv(net, x, width, number)
    # Each level is the last feature map of its stride. A dilated stage strides no more, but is a level all the same.
    level = int(spec.stem_stride == 2)
    levels = {f"P{level}": net.layer_name(x)}
    if spec.stem_pool != "none":
        x = STEM_POOLS[spec.stem_pool](net, x)
        level += 1
        levels[f"P{level}"] = net.layer_name(x)
    for plan, stride in zip(spec.plan(), spec.strides, strict=True):
        x = STAGES[spec.stage](net, x, plan)
        level += stride == 2
        levels[f"P{level}"] = net.layer_name(x)
    levels.pop("P0", None)  # stride 1
    return levels, x


def _stem_conv(net: Parts, x: Any, width: int, number: int) -> Any:
    """The stem's convolution ``number``; the first may stride."""
    kernel = net.spec.stem_kernel
    stride = net.spec.stem_stride if number == 1 else 1
    if kernel % 2 == 0 and net.spec.padding == "symmetric":
        margin = (kernel // 2 - 1,) * 2  # as in YOLOv5: where the size is odd, the last pixel is dropped
        x = net.pad(x, "stem_pad1", (margin, margin))
        x = net.conv2d(x, "stem_conv1", width, kernel, strides=stride, padding="valid")
        return net.act(net.norm(x, "stem", 1), "stem_act1")
    return net.conv_norm_act(x, width, kernel, "stem", number, strides=stride)


def plain(net: Parts, x: Any, plan: DarkStagePlan) -> Any:
    """Stride, then the blocks."""
    return _blocks(net, _down(net, x, plan, plan.width), plan)


def csp(net: Parts, x: Any, plan: DarkStagePlan) -> Any:
    """Stride, widen, half past the blocks and half through them and a 1x1 convolution, join."""
    past, through = _split(net, x, plan)
    through = net.conv_norm_act(_blocks(net, through, plan), plan.expanded // 2, 1, f"{plan.name}_through", "")
    return _join(net, [past, through], plan)


def cs3(net: Parts, x: Any, plan: DarkStagePlan) -> Any:
    """Stride, widen, half through the blocks and half past them, join."""
    through, past = _split(net, x, plan)
    return _join(net, [_blocks(net, through, plan), past], plan)


STAGES = {"plain": plain, "csp": csp, "cs3": cs3}


def _split(net: Parts, x: Any, plan: DarkStagePlan) -> tuple[Any, Any]:
    """Stride and widen; the lower and the upper half of the channels."""
    if plan.strides > 1 or plan.first_dilation != plan.dilation:
        x = _down(net, x, plan, plan.width if net.spec.early_growth else x.shape[-1])
    place = f"{plan.name}_expand"
    x = net.norm(net.conv(x, plan.expanded, 1, place, ""), place, "")
    if not net.spec.linear_expansion:
        x = net.act(x, f"{place}_act")
    half = plan.expanded // 2
    return (
        net.channel_slice(x, f"{plan.name}_lower", 0, half),
        net.channel_slice(x, f"{plan.name}_upper", half, plan.expanded),
    )


def _join(net: Parts, tensors: list[Any], plan: DarkStagePlan) -> Any:
    return net.conv_norm_act(net.concat(tensors, f"{plan.name}_concat"), plan.width, 1, f"{plan.name}_join", "")


def _down(net: Parts, x: Any, plan: DarkStagePlan, width: int) -> Any:
    place = f"{plan.name}_down"
    if net.spec.down == "avg_pool":
        x = net.avg_pool(x, f"{place}_pool", 2, 2) if plan.strides > 1 else x
        return net.conv_norm_act(x, plan.width, 1, place, "", groups=plan.groups)
    options = {"strides": plan.strides, "dilation": plan.first_dilation, "groups": plan.groups}
    return net.conv_norm_act(x, width, 3, place, "", **options)


def _blocks(net: Parts, x: Any, plan: DarkStagePlan) -> Any:
    for block in plan.blocks:
        x = BLOCKS[net.spec.block](net, x, block)
    return x


def dark(net: Parts, x: Any, plan: DarkPlan) -> Any:
    """1x1 - 3x3, plus ``x``; no activation follows the sum."""
    y = _attend(net, net.conv_norm_act(x, plan.hidden, 1, plan.name, 1), plan)
    y = net.conv(y, plan.filters, 3, plan.name, 2, dilation=plan.dilation, groups=plan.groups)
    return _end(net, y, x, plan)


def edge(net: Parts, x: Any, plan: DarkPlan) -> Any:
    """3x3 - 1x1, plus ``x``; no activation follows the sum."""
    y = net.conv_norm_act(x, plan.hidden, 3, plan.name, 1, dilation=plan.dilation, groups=plan.groups)
    return _end(net, net.conv(_attend(net, y, plan), plan.filters, 1, plan.name, 2), x, plan)


def bottleneck(net: Parts, x: Any, plan: DarkPlan) -> Any:
    """1x1 - 3x3 - 1x1, plus ``x``, then the activation."""
    y = net.conv_norm_act(x, plan.hidden, 1, plan.name, 1)
    y = net.conv_norm_act(y, plan.hidden, 3, plan.name, 2, dilation=plan.dilation, groups=plan.groups)
    y = net.conv(_attend(net, y, plan), plan.filters, 1, plan.name, 3)
    return net.merge(net.norm(y, plan.name, 3, zero=True), x, plan)


def _end(net: Parts, y: Any, x: Any, plan: DarkPlan) -> Any:
    """Batch norm and activation of the second convolution, then the sum."""
    y = net.act(net.norm(y, plan.name, 2, zero=True), f"{plan.name}_act2")
    return net.merge(y, x, plan, act=False)


def _attend(net: Parts, y: Any, plan: DarkPlan) -> Any:
    if net.spec.attention is None:
        return y
    return squeeze_excite(net, y, plan.name, squeezed(y.shape[-1], net.spec.attention_ratio, 8))


BLOCKS = {"dark": dark, "bottleneck": bottleneck, "edge": edge}
