"""The function that is exported: the model in inference, with its ends made fit for a file.

* It computes in float32, also where the model trained in mixed precision.
* Preprocessing at the very start (rescaling, normalisation) is left out; the file's metadata states it as
  ``image * scale + offset``, and the runtime does it while quantizing its input anyway.
* Concatenations that only join what the model returns, as RetinaNet's of its pyramid levels, are left out of an
  int8 file: each part keeps its own scale, and the runtime joins them (parts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.export.convolutions import convolutions_in_one_operation
from resnet_backbones.export.preprocess import fixed_signature, pixel_range, prepared
from resnet_backbones.export.sources import Sources
from resnet_backbones.keras_compat import computing_in_float32, keras
from resnet_backbones.quantization import context
from resnet_backbones.quantization.export_forms import scale_and_offset
from resnet_backbones.quantization.expressible import check_repeatable, integers_unread
from resnet_backbones.quantization.hooks import hook_of, layers_and_operations, own_calls_replaced
from resnet_backbones.quantization.interception import intercepted
from resnet_backbones.quantization.placement.joins import joins_outputs
from resnet_backbones.quantization.placement.parts import OutputParts
from resnet_backbones.quantization.trace import LeafCall, Trace


@dataclass
class ExportGraph:
    """What a converter needs.

    Attributes:
        function: concrete function of one image batch (N, H, W, C), and of kernels if so asked, returning the parts in
            order.
        input_name: name of its input.
        part_names: names of what it returns, in order.
        outputs: the model's outputs as the runtime's metadata describes them.
        scale, offset: preprocessing left out: graph input = image * scale + offset.
        input_shape: (batch or ``None``, height, width, channels).
        network_size: (height, width) the network itself takes: the input's, unless the function resizes.
        sources: which layer each operation of the function comes from.
        kernel_names: names of the further inputs, those that stand for quantized kernels, in order.
        returned: name of a part -> the operation whose result it is.
    """

    function: Any
    input_name: str
    part_names: list[str]
    outputs: list[dict[str, Any]]
    scale: Any = 1.0
    offset: Any = 0.0
    input_shape: tuple[int | None, ...] = ()
    network_size: tuple[int, int] = (0, 0)
    sources: Sources | None = None
    kernel_names: list[str] = field(default_factory=list)
    returned: dict[str, str] = field(default_factory=dict)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the runtime must know of input and outputs (runtime/metadata.py)."""
        given = {"shape": list(self.input_shape), "scale": self.scale, "offset": self.offset}
        if self.network_size != self.input_shape[1:3]:
            given["network_size"] = list(self.network_size)
        return {"input": given, "outputs": self.outputs}


def build_graph(
    model: Any,
    *,
    split_outputs: bool,
    mode: str,
    batch: int | None = 1,
    input_shape: tuple[int, ...] | None = None,
    preprocessing: tuple[int | None, int | None] | None = None,
    kernels: Sequence[tuple[Any, Sequence[int]]] = (),
    forms: Callable[[Any], Callable[..., Any] | None] = lambda layer: None,
) -> ExportGraph:
    """Traces a model for export.

    Args:
        model: a built model with one input.
        split_outputs: return the parts of final concatenations instead of joining them. Formats whose outputs are float
            need not: there joining rounds nothing.
        mode: ``context.EXPORT`` or ``context.EXPORT_PLAIN`` for the quantized form, ``context.FLOAT`` for the float
            form.
        batch: images a call; ``None`` for any number.
        input_shape: (height, width, channels) of the images of a model that leaves its size open.
        preprocessing: (height, width) of images to resize and rescale within the function; ``None`` to leave that out.
        kernels: for ``context.EXPORT_PLAIN``, quantizers of kernels and the kernels' shapes. Each becomes an input.
        forms: function of a layer that gives what to call in its place; ``None`` for the layer itself.

    Raises:
        ValueError: the model has several inputs, its input size is not fixed, or the same images give it other outputs
            each time.
    """
    trace = Trace(model, fixed_signature(model, input_shape))
    check_repeatable(trace)
    spec = _single_input(model, trace, batch)
    joins = [call.layer for call in trace.calls if split_outputs and _returns_parts(trace, call)]
    leading = leading_preprocessing(trace)
    if mode == context.EXPORT:
        _check_integer_input(trace, preprocessing is not None)
    size: Any = tuple(spec.shape[1:3])
    pixels = None
    if preprocessing is not None:
        spec = tf.TensorSpec((batch, *preprocessing, spec.shape[3]), tf.float32, name="images")
        pixels, leading = pixel_range(trace, leading) if mode == context.EXPORT else None, []
    parts = OutputParts()
    given_images: list[Any] = []

    def replacement(layer, call):
        if layer in joins:
            return parts.replacement(layer, call)
        last = layer is leading[-1].layer and mode in context.EXPORTS
        form = _identity_with_its_range(layer) if last else lambda inputs: inputs
        if layer is leading[0].layer:  # what a model with an integer input hands on has lost its fractions
            return lambda inputs: form(given_images[0])
        return form

    graph = ExportGraph(None, spec.name or "images", [], [], input_shape=tuple(spec.shape), network_size=size)
    bare = mode in context.EXPORTS and not leading and preprocessing is None
    read_bare = _range_of_input(trace) if bare else None

    def forward(images, *given):
        if preprocessing is not None:
            images = prepared(images, size, pixels)
        images = images if read_bare is None else read_bare(images)
        given_images.append(images)
        with context.using(given_kernels=dict(zip([id(quantizer) for quantizer, _ in kernels], given, strict=True))):
            result = model(tf.nest.pack_sequence_as(trace.signature, [images]), training=False)
        flat: list[Any] = []
        for name, tensor in named_outputs(result):
            several = parts.of(tensor)
            tensors = [tensor] if several is None else several.tensors()
            names = [name] if several is None else [f"{name}_{i}" for i in range(len(tensors))]
            joined = {"parts": names, "axis": 0} if several is None else several.described(iter(names))
            graph.outputs.append({"name": name, **joined})
            graph.part_names.extend(names)
            flat.extend(tensors)
        return flat

    graph.sources = Sources(model, trace)
    graph.kernel_names = [f"kernel_{number}" for number in range(len(kernels))]
    specs = [tf.TensorSpec(k[1], tf.float32, name=n) for k, n in zip(kernels, graph.kernel_names, strict=True)]
    # Made once convolutions are replaced: a form may call what the layer computes then.
    others = ((layer, form) for layer in layers_and_operations(model) if (form := forms(layer)) is not None)
    with (
        context.use_mode(mode),
        computing_in_float32(model),
        convolutions_in_one_operation(model),
        own_calls_replaced(others),
        intercepted(graph.sources.layers, graph.sources.recorder),
        intercepted(joins + [call.layer for call in leading], replacement),
    ):
        graph.function = tf.function(forward, autograph=False).get_concrete_function(spec, *specs)
    operations = [trace.canonical(tensor).op.name for tensor in graph.function.outputs]
    graph.returned = dict(zip(graph.part_names, operations, strict=True))
    ends = [tensor.op.name for tensor in graph.function.outputs]
    graph.sources.rename(dict(zip(ends, operations, strict=True)))
    graph.scale, graph.offset = _scale_and_offset(leading)
    return graph


def _identity_with_its_range(layer: Any) -> Any:
    """Preprocessing left out: its input comes preprocessed; the range behind the layer is the file's input range."""
    found = hook_of(layer)
    quantizer = found.quantizers.get((0, "output")) if found else None
    return (lambda inputs: inputs) if quantizer is None else quantizer


def _range_of_input(trace: Trace) -> Any:
    """The range of the model's input where bare operations read it too: the file's input has it for all its readers."""
    (tensor,) = trace.inputs
    if not trace.feeds_bare_operation(tensor):
        return None
    readers = [call for call in trace.calls if any(given is tensor for given in call.inputs)]
    ranges = [found.quantizers.get((call.index, "input:0")) for call in readers if (found := hook_of(call.layer))]
    return next(filter(None, ranges), None)


def _returns_parts(trace: Trace, call: LeafCall) -> bool:
    """Whether the call joins what the model returns, without a range of its own."""
    found = hook_of(call.layer)
    return joins_outputs(trace, call) and (found is None or (call.index, "output") not in found.quantizers)


def _single_input(model: Any, trace: Trace, batch: int | None) -> tf.TensorSpec:
    specs = tf.nest.flatten(trace.signature)
    if len(specs) != 1:
        raise ValueError(f"{model.name!r} has {len(specs)} inputs; only models with one image input can be exported.")
    shape = specs[0].shape.as_list()
    if any(size is None for size in shape[1:]):
        raise ValueError(
            f"{model.name!r} takes inputs of any size {tuple(shape)}; an exported file has a fixed one. Name one for "
            "images, export_model(..., input_shape=(512, 512, 3)), or build the model with a fixed input_shape."
        )
    return tf.TensorSpec((batch, *shape[1:]), tf.float32, name="images")


def _check_integer_input(trace: Trace, preprocessing: bool) -> None:
    """Refuses a LiteRT file in integers that would round its input to whole numbers first, in float."""
    dtype = tf.nest.flatten(trace.signature)[0].dtype
    if preprocessing and not dtype.is_floating and trace.calls:
        raise ValueError(
            f"{trace.model.name!r} takes {dtype.name} images, and preprocessing= in the file would stay in float in a "
            ".tflite file of integers. Build the model with Input(dtype='float32'), which takes the same images, or "
            "begin it with one Rescaling or Normalization layer and leave preprocessing= out: the runtime then "
            "rescales."
        )
    if said := integers_unread(trace):
        raise ValueError(said)


def leading_preprocessing(trace: Trace) -> list[LeafCall]:
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
