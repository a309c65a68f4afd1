"""Biases of 16-bit activations: LiteRT's kernels read 64 bits, of which its converter writes 32."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from resnet_backbones.export.litert.flatbuffer import Appender, kind_of, read_model, write_model
from resnet_backbones.quantization.bias_rounding import MOST_WRITTEN
from resnet_backbones.quantization.hooks import hook_of

_OPERATOR = schema.BuiltinOperator
_INT64 = schema.TensorType.INT64
#: Operator -> which inputs are its data, kernel and bias.
INPUTS = {
    _OPERATOR.CONV_2D: (0, 1, 2),
    _OPERATOR.DEPTHWISE_CONV_2D: (0, 1, 2),
    _OPERATOR.FULLY_CONNECTED: (0, 1, 2),
    _OPERATOR.TRANSPOSE_CONV: (2, 1, 3),
}


def with_wide_biases(data: bytes, sources: Any) -> bytes:
    """Puts into a file what was cut off its biases while it was converted (``BiasRounding.fitting``).

    Args:
        data: the file.
        sources: which layer each operation of the exported function comes from, a ``Sources``.
    """
    model, changed = read_model(data), False
    graph = model.subgraphs[0]
    for operator in graph.operators:
        places = INPUTS.get(kind_of(model, operator), (0, 0, len(operator.inputs)))
        if places[2] >= len(operator.inputs) or graph.tensors[operator.inputs[places[2]]].type != _INT64:
            continue
        values, kernel, bias = (graph.tensors[operator.inputs[place]] for place in places)
        depthwise = kind_of(model, operator) == _OPERATOR.DEPTHWISE_CONV_2D
        found = _added(sources, graph.tensors[operator.outputs[0]].name.decode(), depthwise)
        if found is None:
            continue
        whole = found / (float(values.quantization.scale[0]) * np.asarray(kernel.quantization.scale))
        written = np.frombuffer(bytes(model.buffers[bias.buffer].data), np.int64)
        mended = np.where(np.abs(whole) > MOST_WRITTEN, np.round(whole), written).astype(np.int64)
        if np.any(mended != written):
            bias.buffer, changed = Appender(model).buffer(mended.tobytes()), True
    return write_model(model) if changed else data


def _added(sources: Any, output: str, depthwise: bool) -> np.ndarray | None:
    """What the operator that computes a tensor adds, one value a channel."""
    found = rounding_of(sources, output, depthwise)
    added = None if found is None else found[1].added(found[2])
    return None if added is None else added[0]


def rounding_of(sources: Any, output: str, depthwise: bool) -> tuple[Any, Any, Any] | None:
    """How the bias of an operator is rounded.

    Args:
        sources: which layer each operation of the exported function comes from, a ``Sources``.
        output: name of the tensor that the operator computes.
        depthwise: whether it is a depthwise convolution.

    Returns:
        The call of the layer, its ``BiasRounding`` and the layer that adds the bias; ``None`` where nothing is known.
    """
    found = sources.weighted(output)
    for call in sources.calls_of(output) if found is None else [found[0]]:
        hook = hook_of(call.layer)
        if hook is not None and call.index in hook.added and not (depthwise and len(hook.kernels) > 1):
            return call, *hook.added[call.index]  # not of the first part of a separable convolution
    return None
