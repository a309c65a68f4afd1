"""Where quantizers go for TensorRT: on what weighted layers read, and nowhere that would keep layers from fusing.

* On the input of every weighted layer, and on what is pooled; one tensor has one range, moved values share it.
* On the shortcut of an addition only. The convolution that made the other input adds in its own accumulators; with a
  projection shortcut too, which is a convolution itself, all inputs but the deepest have a range. Three and more are
  added pair by pair: each sum that another is added to has one.
* A batch norm with no convolution before it has one on its input.
* Nothing between a convolution, its batch norm and its activation, nor behind an addition.
* The last weighted layers, whose results the model returns, stay in float where the scheme says so.

Source: NVIDIA, "Working with Quantized Types", section "Q/DQ placement recommendations",
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.placement.joins import AVERAGED
from resnet_backbones.quantization.placement.placer import Placer
from resnet_backbones.quantization.placement.selection import Selection
from resnet_backbones.quantization.placement.sites import Placement, QuantizerSite
from resnet_backbones.quantization.trace import LeafCall, Trace

_layers = keras.layers
POOLED = (*AVERAGED, _layers.MaxPooling2D, _layers.GlobalMaxPooling2D)


class TensorRTPlacer(Placer):
    """TensorRT's rules, a method a role."""

    def __init__(self, trace: Trace, selection: Selection) -> None:
        super().__init__(trace, selection)
        self._site_of: dict[tuple[int, int], QuantizerSite] = {}  # (id of the tensor values come from, bits)
        self._last = self._last_weighted() if self.scheme.float_outputs else set()

    def run(self) -> Placement:
        """Places everything; additions last, when it is known which layers are quantized."""
        placement = super().run()
        for call in self.trace.calls:
            if self.role(call) == "add":
                self._place_addition(call)
        for added in self.trace.bare_additions():
            self._place_bare_addition(added)
        return placement

    # --- one method a role -------------------------------------------------------------------------------------

    def place_weighted(self, call: LeafCall) -> None:
        self.absorb_chain(call)
        if call.order not in self._last:
            self._quantize(call, range(len(call.inputs)))
            self.kernel(call)
            self.between(call)  # a separable convolution is two weighted layers

    def place_batch_norm(self, call: LeafCall) -> None:
        self.placement.lone_batch_norms.append(call.order)
        self._quantize(call, range(1))

    def place_same_range(self, call: LeafCall) -> None:
        if isinstance(call.layer, POOLED):
            self._quantize(call, range(len(call.inputs)))

    place_compute = place_same_range

    def place_add(self, call: LeafCall) -> None:
        """Nothing yet: see :meth:`run`."""

    def place_activation(self, call: LeafCall) -> None:
        """Nothing: activations run in the kernel of the layer before them."""

    # --- helpers -----------------------------------------------------------------------------------------------

    def _place_addition(self, call: LeafCall) -> None:
        fused = self.fused_addends(call.inputs)
        self._quantize(call, [i for i in range(len(call.inputs)) if i not in fused])
        self.between(call)

    def _place_bare_addition(self, added: Sequence[tf.Tensor]) -> None:
        """A shortcut that a layer moved, as feature pyramids upsample one, has its range where that layer reads it."""
        fused = self.fused_addend(added)
        for number, tensor in enumerate(added):
            made_by = self.trace.producer(tensor)
            if fused not in (None, number) and made_by is not None and self.role(made_by) == "same_range":
                self._quantize(made_by, range(len(made_by.inputs)))

    def _quantize(self, call: LeafCall, positions) -> None:
        bits = self.selection.bits(call.layer).activation
        for position in positions:
            tensor = call.inputs[position]
            if not tensor.dtype.is_floating:
                continue
            reader, at = self._before_padding(call, position)
            key = id(self._source(tensor)), bits
            if key not in self._site_of:
                self._site_of[key] = self.site([], bits)
            point = (reader.order, f"input:{at}")
            if point not in self._site_of[key].points:
                self._site_of[key].points.append(point)

    def _before_padding(self, call: LeafCall, position: int) -> tuple[LeafCall, int]:
        """The padding before a convolution becomes a part of it, so the range stands before the padding."""
        tensor = call.inputs[position]
        padding = self.trace.producer(tensor)
        if padding is None or not isinstance(padding.layer, _layers.ZeroPadding2D):
            return call, position
        return (padding, 0) if self.trace.only_consumer(tensor) is call else (call, position)

    def _source(self, tensor: tf.Tensor) -> tf.Tensor:
        """The tensor whose values this one holds, moved or padded or the largest of them."""
        while True:
            made_by = self.trace.producer(tensor)
            if made_by is None:
                moved = self.trace.moved_from(tensor)
            elif self.role(made_by) == "same_range" and not isinstance(made_by.layer, AVERAGED):
                moved = made_by.inputs[0]
            else:
                moved = None
            if moved is None:
                return tensor
            tensor = moved

    def _last_weighted(self) -> set[int]:
        """Orders of the weighted calls whose results nothing but the model's outputs reads: the last layers of heads.

        What has a batch norm behind it predicts nothing: it ends a backbone.
        """
        last: set[int] = set()
        pending, seen = list(self.trace.outputs), set()
        while pending:
            tensor = pending.pop()
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            made_by = self.trace.producer(tensor)
            if made_by is None:
                pending.extend(self.trace.canonical(source) for source in tensor.op.inputs)
            elif self.role(made_by) == "weighted":
                last.add(made_by.order)
            elif self.role(made_by) not in ("add", "batch_norm", None):
                pending.extend(made_by.inputs)
        return {order for order in last if not self._feeds_weighted(self.trace.calls[order])}

    def _feeds_weighted(self, call: LeafCall) -> bool:
        """Whether a weighted layer reads what comes of the call."""
        pending, seen = list(call.outputs), set()
        while pending:
            tensor = pending.pop()
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            for reader in self.trace.consumers(tensor):
                if isinstance(reader, LeafCall):
                    if self.role(reader) == "weighted":
                        return True
                    pending.extend(reader.outputs)
                else:
                    pending.extend(self.trace.canonical(output) for output in reader.outputs)
        return False
