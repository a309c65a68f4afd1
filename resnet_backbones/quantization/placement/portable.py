"""The scheme for both targets: LiteRT's places, and which of them a TensorRT file does without.

LiteRT needs a range wherever an operator ends; TensorRT wants none between a convolution and what it fuses with. So a
model is trained with LiteRT's, and the marked ones are the identity in the file for TensorRT and in
``context.use_view("tensorrt")``, the Keras graph such a file is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from resnet_backbones.keras_api import keras
from resnet_backbones.quantization.placement.placer import Placer
from resnet_backbones.quantization.placement.selection import Selection
from resnet_backbones.quantization.placement.sites import Placement, QuantizerSite
from resnet_backbones.quantization.placement.trace import LeafCall, Trace
from resnet_backbones.quantization.rules import FUSED, activation_name


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
    def __init__(self, trace: Trace, selection: Selection) -> None:
        super().__init__(trace, selection)
        self._bare_additions = trace.bare_additions()

    def is_litert_only(self, site: QuantizerSite) -> bool:
        order, port = site.points[0]
        if port == "preactivation" or (site.fixed_range is not None and not site.symmetric):
            return True
        call = self.trace.points[order]
        return port == "output" and (self._fuses_onwards(call) or self._in_hard_sigmoid(call))

    def _in_hard_sigmoid(self, call: LeafCall) -> bool:
        """Whether the call's result is only shifted and then clipped: both run in the kernel before."""
        reader = self._only_reader(call)
        if reader is not None and isinstance(reader.layer, keras.layers.Rescaling):
            call, reader = reader, self._only_reader(reader)
        shifted = isinstance(call.layer, keras.layers.Rescaling)
        return shifted and reader is not None and activation_name(reader.layer) in FUSED

    def _only_reader(self, call: LeafCall) -> LeafCall | None:
        output = call.outputs[0]
        return self.trace.only_consumer(output) if self.trace.read_once(output) else None

    def _fuses_onwards(self, call: LeafCall) -> bool:
        """Whether the call ends a convolution whose only reader is an activation, or an addition it is fused with."""
        (output,) = call.outputs[:1]
        if not self.trace.read_once(output) or not self._made_by_convolution(output):
            return False
        reader = self.trace.only_consumer(output)
        if reader is not None and self.role(reader) == "activation":
            return True
        added = reader.inputs if reader is not None and self.role(reader) == "add" else self._bare_sum_of(output)
        fused = self.fused_addend(added)
        return fused is not None and added[fused] is output

    def _bare_sum_of(self, tensor: tf.Tensor) -> Sequence[tf.Tensor]:
        sums = [added for added in self._bare_additions if any(one is tensor for one in added)]
        return sums[0] if sums else []
