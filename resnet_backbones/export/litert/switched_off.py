"""Channels that a batch norm switches off, or nearly so: LiteRT's converter wants a scale for each.

``quantization/export_forms.py`` raises their factors to a small part of the largest, so that the converter quantizes
the convolution at all. Here the integers and biases get the factors of the model again, in the steps of the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from resnet_backbones.export.litert.file import integers_of, with_integers
from resnet_backbones.export.litert.flatbuffer import Appender, kind_of, read_model, write_model
from resnet_backbones.export.litert.wide_biases import INPUTS, rounding_of
from resnet_backbones.keras_compat import float32_variable, keras
from resnet_backbones.quantization.export_forms import never_zero
from resnet_backbones.quantization.kernel_quantizer import read


def with_own_factors(data: bytes, sources: Any) -> bytes:
    """Gives the kernels and biases of a file the factors that its batch norms have.

    Args:
        data: the file.
        sources: which layer each operation of the exported function comes from, a ``Sources``.

    Returns:
        The file; the same bytes where no channel is switched off.
    """
    model, changed = read_model(data), False
    graph, add, written = model.subgraphs[0], Appender(model), {}

    def write(tensor: Any, content: bytes) -> None:
        if content not in written:
            written[content] = add.buffer(content)
        tensor.buffer = written[content]

    for operator in graph.operators:
        places = INPUTS.get(kind_of(model, operator))
        if places is None or places[2] >= len(operator.inputs):
            continue
        values, kernel, bias = (graph.tensors[operator.inputs[place]] for place in places)
        name = graph.tensors[operator.outputs[0]].name.decode()
        found = rounding_of(sources, name, kind_of(model, operator) == schema.BuiltinOperator.DEPTHWISE_CONV_2D)
        content = model.buffers[kernel.buffer].data
        own = None if found is None else _own_factors(found[1], found[2])
        scales = [] if kernel.quantization is None or kernel.quantization.scale is None else kernel.quantization.scale
        if found is None or own is None or content is None or len(scales) < 2:  # in float, or one for all channels
            continue
        part, less = own
        integers = integers_of(kernel, bytes(content))
        channels = [-1 if axis == kernel.quantization.quantizedDimension else 1 for axis in range(integers.ndim)]
        write(kernel, with_integers(kernel, np.round(integers * part.reshape(channels))))
        steps = float(values.quantization.scale[0]) * np.asarray(scales, np.float64)
        kind = np.int64 if bias.type == schema.TensorType.INT64 else np.int32
        added = np.frombuffer(bytes(model.buffers[bias.buffer].data), kind)
        write(bias, np.round(added + less * sources.scaled_after(found[0]) / steps).astype(kind).tobytes())
        changed = True
    return write_model(model) if changed else data


def _own_factors(rounding: Any, layer: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Which part of its raised factor each channel has, and what is added in return: float64, one value per channel.

    ``None`` where no factor is raised.
    """
    if not isinstance(layer, keras.layers.BatchNormalization) or layer.gamma is None:
        return None
    gamma = read(float32_variable(layer.gamma)).astype(np.float64)
    raised = never_zero(gamma, rounding.read.bits).astype(np.float64)
    part = np.where(np.abs(gamma) < np.abs(raised), gamma / raised, 1.0)
    if np.all(part == 1.0):
        return None
    factor, mean = (np.asarray(one) for one in rounding.factor_and_mean(layer))
    deviation = 1.0 / np.sqrt(read(float32_variable(layer.moving_variance)).astype(np.float64) + layer.epsilon)
    return part, mean * (raised * deviation - factor) * (part < 1.0)
