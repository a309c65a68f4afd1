"""Where quantizers go for LiteRT: where its integer kernels read their scales.

* Nothing between a convolution, its batch norm and its ReLU, nor between an addition and its ReLU: the converter
  fuses them into one operator, so only the end of such a chain has a range.
* Both inputs of an addition and its (activated) output have ranges.
* What only a concatenation, a maximum or a minimum reads has the range of its result.
* One tensor, one range. Layers that only move values (padding, max pooling, nearest upsampling) add none.
* A layer called several times, such as a detection head shared by the pyramid levels, has its own ranges per call.
* What a bare operation computed is quantized where the next layers read it; if another bare operation does, by the
  layer of layers that returns it or takes it, as residual blocks that end in ``relu(x + y)`` do.
* Where a layer of other bits reads a tensor, the tensor has a second range there: LiteRT converts between the two.

Source: LiteRT's int8 specification, https://ai.google.dev/edge/litert/models/quantization_spec
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.placement.joins import is_taken_apart, output_joins
from resnet_backbones.quantization.placement.placer import Placer
from resnet_backbones.quantization.placement.selection import Selection
from resnet_backbones.quantization.placement.sites import Placement, QuantizerSite
from resnet_backbones.quantization.rules import FUSED, INT8, activation_name, fixed_range, has_one_scale
from resnet_backbones.quantization.trace import LeafCall, Trace


class LiteRTPlacer(Placer):
    """LiteRT's rules, a method a role."""

    def __init__(self, trace: Trace, selection: Selection) -> None:
        super().__init__(trace, selection)
        self._bits_at_output: dict[int, int] = {}  # id of a tensor -> bits of the range its producer gave it
        self._site_at_inputs: dict[tuple[int, int], QuantizerSite] = {}  # (id of a tensor, bits)
        self._output_joins = output_joins(trace)
        for call in trace.composites:
            self._place_composite(call)

    def run(self) -> Placement:
        """Places everything.

        Raises:
            ValueError: a depthwise or separable convolution has the channels first, which LiteRT cannot hold in float.
        """
        kinds = (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
        layers = [call.layer for call in self.trace.calls if isinstance(call.layer, kinds)]
        names = dict.fromkeys(layer.name for layer in layers if layer.data_format == "channels_first")
        if names:
            raise ValueError(
                f"{', '.join(names)}: LiteRT has no depthwise or separable convolution with "
                "data_format='channels_first', not even in float. Build the model with channels last, or quantize with "
                "'gpu_int8' for TensorRT alone."
            )
        return super().run()

    # --- one method a role -------------------------------------------------------------------------------------

    def place_same_range(self, call: LeafCall) -> None:
        if call.outputs and all(any(out is given for given in call.inputs) for out in call.outputs):
            return  # an identity in inference, such as dropout
        carried = [bits for tensor in call.inputs if (bits := self._bits_of(tensor)) is not None]
        bits = carried[0] if carried else self._bits(call)
        self._quantize_inputs(call, bits)
        self._bits_at_output.update((id(tensor), bits) for tensor in call.outputs)

    def place_weighted(self, call: LeafCall) -> None:
        self._quantize_inputs(call)
        self.kernel(call)
        self.between(call)
        activation = activation_name(call.layer)
        if activation is None or activation in FUSED:
            self._quantize_end(call)
            return
        self.site([(call.order, "preactivation")], self._bits(call))
        if activation in INT8:
            self._quantize_activated(call, activation)
        else:
            self._report_activation(call, activation)

    def place_add(self, call: LeafCall) -> None:
        self._quantize_inputs(call)
        self.between(call)
        self._quantize_end(call)

    def place_batch_norm(self, call: LeafCall) -> None:
        self.placement.lone_batch_norms.append(call.order)
        self.place_add(call)

    def place_activation(self, call: LeafCall) -> None:
        activation = activation_name(call.layer)
        if activation is None:  # linear
            return
        if activation not in INT8:
            self._report_activation(call, activation)
            return
        self._quantize_inputs(call)
        self._quantize_activated(call, activation)

    def place_compute(self, call: LeafCall) -> None:
        preprocessing = isinstance(call.layer, (keras.layers.Rescaling, keras.layers.Normalization))
        if preprocessing and self._reads_model_input(call):
            self._quantize_output(call, self._bits(call))  # the exported file takes its result as input
            return
        self._quantize_inputs(call)
        self.between(call)
        if any(
            call is join for join in self._output_joins
        ):  # each part keeps its own range, and what moves the whole needs none
            self._bits_at_output.update((id(tensor), self._bits(call)) for tensor in call.outputs)
        else:
            self._quantize_output(call, self._bits(call))
            self._round_once(call)

    # --- helpers -----------------------------------------------------------------------------------------------

    def _place_composite(self, call: LeafCall) -> None:
        """Ranges of what bare operations made and others read, at the layer of layers that takes it or returns it."""
        if self.selection.stays_float(call.layer):
            return
        bits = self._bits(call)
        for position, tensor in enumerate(call.inputs):
            inside = all(reader.name in call.operations for reader in tensor.consumers())
            if inside and self._lacks_range(tensor):
                self._quantize_input(call, position, tensor, bits)
                self._bits_at_output[id(tensor)] = bits
        if len(call.outputs) == 1 and self._lacks_range(call.outputs[0]):
            self._quantize_output(call, bits)

    def _lacks_range(self, tensor: tf.Tensor) -> bool:
        """Whether a bare operation made the tensor and another reads it, so that no layer between could quantize it."""
        image = tensor.dtype.is_floating and tensor.shape.rank == 4  # tokens of transformers stay in float
        made_bare = self.trace.producer(tensor) is None and self.trace.moved_from(tensor) is None
        given = any(tensor is one for one in self.trace.inputs)
        bare = image and made_bare and not given and self._bits_of(tensor) is None
        return bare and self.trace.feeds_bare_operation(tensor)

    def _read_behind_bare_relu(self, end: LeafCall) -> bool:
        """Whether only a bare ReLU reads what a chain gives, and all that reads the ReLU quantizes its input.

        The converter fuses it as it does a layer, and a range between the two would be half wasted.
        """
        relu = self.trace.bare_relu_behind(end.outputs[0])
        if relu is None:
            return False
        if self._bits_of(relu) is not None:
            return True
        readers = self.trace.consumers(relu)
        returned = any(relu is output for output in self.trace.outputs)
        return (
            bool(readers)
            and not returned
            and all(
                isinstance(reader, LeafCall) and self.role(reader) not in (None, "activation") for reader in readers
            )
        )

    def _bits(self, call: LeafCall) -> int:
        return self.selection.bits(call.layer).activation

    def _report_activation(self, call: LeafCall, activation: str) -> None:
        self.unsupported(call.layer, f"activation {activation!r} has no int8 form in LiteRT")

    def _quantize_activated(self, call: LeafCall, activation: str) -> None:
        self._quantize_result(call, activation, self._bits(call))

    def _quantize_result(self, call: LeafCall, activation: str | None, bits: int) -> None:
        """A range after a call that applies an activation; some have a fixed one, whatever the scheme."""
        symmetric = self.scheme.symmetric_activations if activation == "clipped_relu" else False
        fixed = fixed_range(_applies(call.layer), activation, bits, symmetric)
        self._quantize_output(call, bits, fixed, symmetric=None if fixed is None else symmetric or bits > 8)

    def _quantize_end(self, call: LeafCall) -> None:
        """A range behind the chain that fuses into the call."""
        end = self.absorb_chain(call)
        if not self._read_behind_bare_relu(end):
            self._quantize_result(end, activation_name(end.layer), self._bits(call))

    def _round_once(self, call: LeafCall) -> None:
        """Lets what only this call reads be rounded in the scale of its result, if integers have one scale for both.

        A range of its own would round it twice; the converter leaves that out.
        """
        if not has_one_scale(call.layer) or is_taken_apart(self.trace, call) or self._points_inside(call):
            return
        result = self.placement.sites[-1]
        for position, tensor in enumerate(call.inputs):
            made_by = self.trace.producer(tensor)
            places = [(call.order, f"input:{position}")]
            if self._bits_of(tensor) in (None, result.bits):
                if self.trace.only_consumer(tensor) is not call or self._returned_by_layer_of_layers(tensor):
                    continue
                if made_by is not None and self._clips_by_its_range(made_by, result.bits):
                    continue
                places += [(made_by.order, "output")] if made_by else []
            elif not any(site.points == places for site in self.placement.sites):
                continue  # others read it in these bits too
            own = next((site for site in self.placement.sites if site.points[0] in places), None)
            if own is not None and own is not result and own.fixed_range is None and own.bits == result.bits:
                self.placement.sites = [site for site in self.placement.sites if site is not own]
                result.points += own.points

    def _clips_by_its_range(self, call: LeafCall, bits: int) -> bool:
        """Whether a ReLU6 has 16 bits and fuses into nothing: LiteRT clips nothing else there."""
        alone = self.role(call) == "activation" and self._bits_of(call.inputs[0]) is not None
        return alone and bits > 8 and activation_name(call.layer) == "relu6"

    def _points_inside(self, call: LeafCall) -> bool:
        return any(point == (call.order, "between:0") for site in self.placement.sites for point in site.points)

    def _returned_by_layer_of_layers(self, tensor: tf.Tensor) -> bool:
        """Whether it may be the output of a model that is quantized by itself, too."""
        return any(tensor is output for call in self.trace.composites for output in call.outputs)

    def _quantize_output(self, call: LeafCall, bits: int, fixed=None, symmetric=None) -> None:
        self._bits_at_output.update((id(tensor), bits) for tensor in call.outputs)
        self.site([(call.order, "output")], bits, fixed, symmetric)

    def _quantize_inputs(self, call: LeafCall, bits: int | None = None) -> None:
        bits = bits or self._bits(call)
        for position, tensor in enumerate(call.inputs):
            if tensor.dtype.is_floating and self._bits_of(tensor) != bits:
                self._quantize_input(call, position, tensor, bits)

    def _quantize_input(self, call: LeafCall, position: int, tensor: tf.Tensor, bits: int) -> None:
        point = (call.order, f"input:{position}")
        site = self._site_at_inputs.get((id(tensor), bits))
        if site is None:
            self._site_at_inputs[id(tensor), bits] = self.site([point], bits)
        else:
            site.points.append(point)

    def _bits_of(self, tensor: tf.Tensor) -> int | None:
        """Bits of the range a tensor carries, from its producer or moved unchanged from one that has it; else None."""
        if id(tensor) in self._bits_at_output:
            return self._bits_at_output[id(tensor)]
        source = self.trace.moved_from(tensor) if self.trace.producer(tensor) is None else None
        return None if source is None else self._bits_of(source)

    def _reads_model_input(self, call: LeafCall) -> bool:
        return all(any(tensor is given for given in self.trace.inputs) for tensor in call.inputs)


def _applies(layer: Any) -> Any:
    """The layer that applies a layer's activation: the one it was given as its activation, or itself."""
    activation = getattr(layer, "activation", None)
    return activation if isinstance(activation, keras.layers.Layer) else layer
