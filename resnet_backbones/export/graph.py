"""The function that is exported: the model in inference, with its ends made fit for a file.

* Preprocessing at the very start (rescaling, normalisation) is left out; the file's metadata states it as
  ``image * scale + offset``, and the runtime does it while quantizing its input anyway.
* A concatenation that only joins what the model returns, as RetinaNet's of its pyramid levels, is left out of an
  int8 file: each part keeps its own scale, and the runtime joins them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_api import keras
from resnet_backbones.quantization import context
from resnet_backbones.quantization.export_forms import scale_and_offset
from resnet_backbones.quantization.hooks import hook_of
from resnet_backbones.quantization.trace import LeafCall, Trace, replaced_calls


@dataclass
class ExportGraph:
    """What a converter needs.

    Attributes:
        function: concrete function of one image batch (1, H, W, C), returning the parts in order.
        input_name: name of its input.
        part_names: names of what it returns, in order.
        outputs: the model's outputs as the runtime's metadata describes them.
        scale, offset: preprocessing left out: graph input = image * scale + offset.
        input_shape: (1, height, width, channels).
    """

    function: Any
    input_name: str
    part_names: list[str]
    outputs: list[dict[str, Any]]
    scale: Any = 1.0
    offset: Any = 0.0
    input_shape: tuple[int, ...] = ()


def build_graph(model: Any, *, split_outputs: bool, mode: str) -> ExportGraph:
    """Traces a model for export.

    Args:
        model: a built model with one input of known height and width.
        split_outputs: return the parts of final concatenations instead of joining them.
        mode: ``context.EXPORT`` for the quantized form, ``context.FLOAT`` for the float form.

    Raises:
        ValueError: the model has several inputs, or its input size is not fixed.
    """
    trace = Trace(model)
    spec = _single_input(model, trace)
    joins = [call.layer for call in trace.calls if split_outputs and _joins_outputs(trace, call)]
    leading = _leading_preprocessing(trace)
    parts_of: dict[int, tuple[Any, list[Any], int]] = {}  # id(joined) -> joined (kept, so that its id is), parts, axis

    def replacement(layer, call):
        if layer not in joins:
            last = layer is leading[-1].layer and mode == context.EXPORT
            return _identity_with_its_range(layer) if last else lambda inputs: inputs

        def joined(inputs, *args, **kwargs):
            output = call(inputs, *args, **kwargs)
            parts_of[id(output)] = output, list(inputs), int(layer.axis)
            return output

        return joined

    graph = ExportGraph(None, spec.name or "images", [], [], input_shape=tuple(spec.shape))

    def forward(images):
        result = model(tf.nest.pack_sequence_as(trace.signature, [images]), training=False)
        flat: list[Any] = []
        for name, tensor in named_outputs(result):
            _, parts, axis = parts_of.get(id(tensor), (None, [tensor], 0))
            names = [name] if len(parts) == 1 else [f"{name}_{i}" for i in range(len(parts))]
            graph.outputs.append({"name": name, "parts": names, "axis": axis})
            graph.part_names.extend(names)
            flat.extend(parts)
        return flat

    with context.use_mode(mode), replaced_calls(joins + [call.layer for call in leading], replacement):
        graph.function = tf.function(forward, autograph=False).get_concrete_function(spec)
    graph.scale, graph.offset = _scale_and_offset(leading)
    return graph


def _identity_with_its_range(layer: Any) -> Any:
    """Preprocessing left out: its input comes preprocessed; the range behind the layer is the file's input range."""
    found = hook_of(layer)
    quantizer = found.quantizers.get((0, "output")) if found else None
    return (lambda inputs: inputs) if quantizer is None else quantizer


def _single_input(model: Any, trace: Trace) -> tf.TensorSpec:
    specs = tf.nest.flatten(trace.signature)
    if len(specs) != 1:
        raise ValueError(f"{model.name!r} has {len(specs)} inputs; only models with one image input can be exported.")
    shape = specs[0].shape.as_list()
    if any(size is None for size in shape[1:]):
        raise ValueError(
            f"{model.name!r} takes images of any size {tuple(shape)}; an exported file has a fixed one. Build it with "
            "a fixed input_shape, e.g. create_backbone(..., input_shape=(512, 512, 3))."
        )
    return tf.TensorSpec((1, *shape[1:]), tf.float32, name="images")


def _joins_outputs(trace: Trace, call: LeafCall) -> bool:
    """Whether the call is a concatenation that is only returned by the model."""
    if not isinstance(call.layer, keras.layers.Concatenate):
        return False
    output = call.outputs[0]
    return any(output is tensor for tensor in trace.outputs) and not trace.consumers(output)


def _leading_preprocessing(trace: Trace) -> list[LeafCall]:
    """Rescaling and normalisation layers between the model's input and anything else."""
    leading: list[LeafCall] = []
    (tensor,) = trace.inputs
    while True:
        call = trace.only_consumer(tensor)
        if call is None or not isinstance(call.layer, (keras.layers.Rescaling, keras.layers.Normalization)):
            return leading
        leading.append(call)
        (tensor,) = call.outputs


def _scale_and_offset(leading: list[LeafCall]) -> tuple[Any, Any]:
    """The layers as one ``x * scale + offset``: numbers, or lists with one number a channel."""
    scale, offset = np.float64(1.0), np.float64(0.0)
    for call in leading:
        a, b = scale_and_offset(call.layer)
        scale, offset = scale * a, offset * a + b
    return np.squeeze(scale).tolist(), np.squeeze(offset).tolist()


def named_outputs(result: Any) -> list[tuple[str, Any]]:
    """The model's outputs with names: keys of a dictionary, else ``output`` or ``output_0``..."""
    if isinstance(result, dict):
        return [(str(name), result[name]) for name in sorted(result)]
    flat = tf.nest.flatten(result)
    return [("output", flat[0])] if len(flat) == 1 else [(f"output_{i}", tensor) for i, tensor in enumerate(flat)]
