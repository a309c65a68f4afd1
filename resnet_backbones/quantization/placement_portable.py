"""The scheme for both targets: LiteRT's places, and which of them a TensorRT file does without.

LiteRT needs a range wherever an operator ends; TensorRT wants none between a convolution and what it fuses with. So a
model is trained with LiteRT's, and the marked ones are the identity in the file for TensorRT and in
``context.use_view("tensorrt")``, the Keras graph such a file is compared with.
"""

from __future__ import annotations

from resnet_backbones.quantization.placer import Placer
from resnet_backbones.quantization.selection import Selection
from resnet_backbones.quantization.sites import Placement, QuantizerSite
from resnet_backbones.quantization.trace import LeafCall, Trace


def mark_litert_only(trace: Trace, selection: Selection, placement: Placement) -> None:
    """Marks the sites of a LiteRT placement that stand where TensorRT fuses.

    Args:
        trace: the traced model.
        selection: what the placement was made with.
        placement: changed in place.
    """
    marker = _Marker(trace, selection)
    marker.placement.kernels = placement.kernels
    for site in placement.sites:
        site.litert_only = marker.is_litert_only(site)


class _Marker(Placer):
    def is_litert_only(self, site: QuantizerSite) -> bool:
        order, port = site.points[0]
        if port == "preactivation" or site.fixed_range is not None:
            return True
        return port == "output" and self._fuses_onwards(self.trace.calls[order])

    def _fuses_onwards(self, call: LeafCall) -> bool:
        """Whether the call ends a convolution whose only reader is an activation, or an addition it is fused with."""
        (output,) = call.outputs[:1]
        reader = self.trace.only_consumer(output)
        if reader is None or not self._made_by_convolution(output):
            return False
        if self.role(reader) == "add":
            fused = self.fused_addend(reader)
            return fused is not None and reader.inputs[fused] is output
        return self.role(reader) == "activation"
