"""The scheme for both targets: LiteRT's places, and which of them a TensorRT file does without.

LiteRT needs a range wherever an operator ends; TensorRT wants none between a convolution and what it fuses with. So a
model is trained with LiteRT's, and the marked ones are the identity in the file for TensorRT and in
``context.use_view("tensorrt")``, the Keras graph such a file is compared with. A fixed range, whose zero point LiteRT
prescribes, is symmetric there.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from resnet_backbones.keras_compat import keras
from resnet_backbones.keras_compat.operations import operation_name
from resnet_backbones.quantization.placement.joins import joins_outputs
from resnet_backbones.quantization.placement.placer import Placer
from resnet_backbones.quantization.placement.selection import Selection
from resnet_backbones.quantization.placement.sites import Placement, QuantizerSite
from resnet_backbones.quantization.placement.tensorrt import POOLED
from resnet_backbones.quantization.trace import LeafCall, Trace

_layers = keras.layers
_SUMS = ("Add", "AddV2", "BiasAdd")


def _multiplies(call: LeafCall) -> bool:
    return isinstance(call.layer, _layers.Multiply) or operation_name(call.layer) == "multiply"


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
        if port == "preactivation":
            return True
        call = self.trace.points[order]
        if port.startswith("input:"):
            return len(site.points) == 1 and self._is_activated_sum(call.inputs[int(port.split(":")[1])])
        if port != "output":
            return False
        if site.fixed_range is not None and not site.symmetric and not self._is_computed_with(call.outputs[0]):
            return True
        return self._fuses_onwards(call) or self._in_hard_sigmoid(call)

    def _is_computed_with(self, tensor: tf.Tensor) -> bool:
        """Whether what reads a bounded tensor, at once or moved, runs in integers if the tensor has a range.

        A gate does not: it only multiplies, and what it multiplies has none either. Nor does what the model returns.
        """
        for reader in self.trace.consumers(tensor):
            if not isinstance(reader, LeafCall):
                results = [self.trace.canonical(output) for output in reader.outputs]
                moved = [one for one in results if self.trace.moved_from(one) is not None]
            elif self.role(reader) == "same_range" and not isinstance(reader.layer, POOLED):
                moved = reader.outputs
            elif self.role(reader) in (None, "activation") or _multiplies(reader) or joins_outputs(self.trace, reader):
                continue
            else:
                return True
            if any(self._is_computed_with(one) for one in moved if one is not tensor):
                return True
        return False

    def _is_activated_sum(self, tensor: tf.Tensor) -> bool:
        """Whether the tensor is a sum, or comes of a batch norm, and an activation alone reads it.

        A PReLU ends in a sum, too: in an ONNX file it is made of two rectifiers.
        """
        reader = self.trace.only_consumer(self._permuted(tensor))
        if reader is None or self.role(reader) != "activation":
            return False
        made_by = self.trace.producer(tensor)
        return tensor.op.type in _SUMS or (made_by is not None and self.role(made_by) in ("add", "batch_norm"))

    def _in_hard_sigmoid(self, call: LeafCall) -> bool:
        """Whether the call's result is only scaled and shifted before an activation: both run in the kernel before."""
        reader = self._only_reader(call)
        if reader is None or not isinstance(reader.layer, _layers.Rescaling):
            return False
        return self._is_activated_sum(reader.outputs[0])

    def _only_reader(self, call: LeafCall) -> LeafCall | None:
        output = call.outputs[0]
        return self.trace.only_consumer(output) if self.trace.read_once(output) else None

    def _fuses_onwards(self, call: LeafCall) -> bool:
        """Whether what reads the call's result runs in its kernel: an activation, a scale, or a sum of it."""
        (output,) = call.outputs[:1]
        if self._is_activated_sum(output):
            return True
        if not self.trace.read_once(output) or not self._made_by_convolution(output):
            return False
        reader = self.trace.only_consumer(self._permuted(output))
        if reader is not None and (self.role(reader) == "activation" or isinstance(reader.layer, _layers.Rescaling)):
            return True
        added = reader.inputs if reader is not None and self.role(reader) == "add" else self._bare_sum_of(output)
        return any(added[i] is output for i in self.fused_addends(added))

    def _permuted(self, tensor: tf.Tensor) -> tf.Tensor:
        """The tensor, or what ``Permute`` makes of it: an ONNX file has the transposition after the activation."""
        reader = self.trace.only_consumer(tensor)
        while reader is not None and isinstance(reader.layer, _layers.Permute):
            tensor = reader.outputs[0]
            reader = self.trace.only_consumer(tensor) if self.trace.read_once(tensor) else None
        return tensor

    def _bare_sum_of(self, tensor: tf.Tensor) -> Sequence[tf.Tensor]:
        sums = [added for added in self._bare_additions if any(one is tensor for one in added)]
        return sums[0] if sums else []
