"""Where quantizers go in a traced model, by the rules of the scheme's target."""

from __future__ import annotations

from resnet_backbones.quantization.placement.litert import LiteRTPlacer
from resnet_backbones.quantization.placement.portable import mark_litert_only
from resnet_backbones.quantization.placement.selection import Selection
from resnet_backbones.quantization.placement.sites import Placement
from resnet_backbones.quantization.placement.tensorrt import TensorRTPlacer
from resnet_backbones.quantization.trace import Trace


def place(trace: Trace, selection: Selection) -> Placement:
    """Decides where quantizers go.

    Args:
        trace: the traced model.
        selection: the scheme, and which layers stay in float or have other bits.

    Returns:
        The placement, by the rules of the scheme's target.
    """
    target = selection.scheme.target
    if target == "tensorrt":
        return TensorRTPlacer(trace, selection).run()
    placement = LiteRTPlacer(trace, selection).run()
    if target == "portable":
        mark_litert_only(trace, selection, placement)
    return placement
