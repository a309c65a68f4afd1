"""Concatenations behind which nothing is computed any more: they only join what the model returns."""

from __future__ import annotations

import warnings

import tensorflow as tf

from resnet_backbones.keras_compat import keras
from resnet_backbones.layers.feature_maps import ChannelSlice
from resnet_backbones.quantization import context
from resnet_backbones.quantization.interception import intercepted
from resnet_backbones.quantization.placement.parts import OutputParts
from resnet_backbones.quantization.placement.selection import layer_patterns
from resnet_backbones.quantization.rules import activation_name, rule_of
from resnet_backbones.quantization.rules import concatenates as layer_concatenates
from resnet_backbones.quantization.trace import LeafCall, Trace

AVERAGED = (keras.layers.AveragePooling2D, keras.layers.GlobalAveragePooling2D)
_RESIZED = (keras.layers.Resizing, keras.layers.UpSampling2D)
_PARTS = (keras.layers.Cropping2D, ChannelSlice)


def joins_outputs(trace: Trace, call: LeafCall) -> bool:
    """Whether the call concatenates what the model returns, at once or after moving it only.

    RetinaNet joins the levels of its pyramid; YOLOV8 joins box distributions of some tens with scores below one, then
    levels, and takes them apart again. One range for all of it would cost precision: of 256 steps a dozen would be left
    to YOLOV8's scores. So each part keeps its own, and an int8 file returns the parts.

    Args:
        trace: the traced model.
        call: any leaf call of it.
    """
    return concatenates(call) and only_moved(trace, call.outputs[0])


def output_joins(trace: Trace) -> list[LeafCall]:
    """The calls that concatenate what the model returns, if a file can return their parts.

    Warns where it cannot, since the values of the parts are mixed: those calls then have a range as any other.

    Args:
        trace: the traced model.
    """
    joins = [call for call in trace.calls if joins_outputs(trace, call)]
    if not joins or not _mixes_parts(trace, joins):
        return joins
    patterns = layer_patterns(trace.model)
    names = ", ".join(dict.fromkeys(patterns[id(call.layer)] for call in joins))
    warnings.warn(
        f"{names}: the values that these concatenate for an output of {trace.model.name!r} are mixed afterwards, so "
        "that they share one range. To give each its own, move them (Permute, Reshape) before they are concatenated.",
        stacklevel=2,
    )
    return []


def _mixes_parts(trace: Trace, joins: list[LeafCall]) -> bool:
    """Whether the parts of an output do not stand side by side along axes. Of an open size it is not known."""
    specs = tf.nest.map_structure(lambda spec: tf.TensorSpec((1, *spec.shape[1:]), spec.dtype), trace.signature)
    if any(None in spec.shape for spec in tf.nest.flatten(specs)):
        return False
    parts, mixed = OutputParts(), False

    def forward(inputs):
        nonlocal mixed
        for output in tf.nest.flatten(trace.model(inputs, training=False)):
            try:
                parts.of(output)
            except ValueError:
                mixed = True

    with context.use_mode(context.FLOAT), intercepted([call.layer for call in joins], parts.replacement):
        tf.function(forward, autograph=False).get_concrete_function(specs)
    return mixed


def concatenates(call: LeafCall) -> bool:
    """Whether the call is a concatenation."""
    return layer_concatenates(call.layer)


def is_taken_apart(trace: Trace, call: LeafCall) -> bool:
    """Whether a part of what the call concatenates is read by itself, at once or after moving it only."""
    pending = list(call.outputs)
    while pending:
        for reader in trace.consumers(pending.pop()):
            if isinstance(reader, LeafCall):
                if isinstance(reader.layer, _PARTS):
                    return True
                pending += reader.outputs if _moves(reader) else []
            elif reader.type in ("Split", "SplitV", "StridedSlice", "Slice"):
                return True
            else:
                pending += [
                    one for output in reader.outputs if trace.moved_from(one := trace.canonical(output)) is not None
                ]
    return False


def only_moved(trace: Trace, tensor: tf.Tensor) -> bool:
    """Whether the model returns the tensor, or what it is moved into, and nothing else reads it."""
    moved: list[tf.Tensor] = []
    for reader in trace.consumers(tensor):
        if isinstance(reader, LeafCall):
            if not (_moves(reader) or concatenates(reader)):
                return False
            moved += reader.outputs
        else:
            if any(trace.moved_from(trace.canonical(output)) is None for output in reader.outputs):
                return False
            moved += [trace.canonical(output) for output in reader.outputs]
    returned = any(tensor is output for output in trace.outputs)
    return (returned or bool(moved)) and all(only_moved(trace, one) for one in moved if one is not tensor)


def _moves(call: LeafCall) -> bool:
    if isinstance(call.layer, keras.layers.Activation):
        return activation_name(call.layer) is None  # linear
    rule = rule_of(call.layer)
    return rule is not None and rule.role == "same_range" and not isinstance(call.layer, (*AVERAGED, *_RESIZED))
