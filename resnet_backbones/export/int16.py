"""What the converter leaves undone in files with int16 activations."""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from resnet_backbones.export.flatbuffer import kind_of, read_model, write_model


def with_integer_ends(data: bytes) -> bytes:
    """Makes a file with int16 activations that LiteRT runs in integers from its input to its outputs.

    The converter wants all ends of such a file to be int16, so it is converted with float ends; the operators that
    convert there are taken off. It also writes biases in 32 bits, which LiteRT's int16 kernels read as, or refuse for,
    64 bits.

    Args:
        data: the file as it was converted, input and outputs float.

    Returns:
        The file mended.
    """
    model = read_model(data)
    (graph,) = model.subgraphs
    _remove_ends(model, graph)
    for operator in graph.operators:
        if len(operator.inputs) > 2 and graph.tensors[operator.outputs[0]].type == schema.TensorType.INT16:
            _widen_bias(model, graph.tensors[operator.inputs[-1]])
    return write_model(model)


def _remove_ends(model: Any, graph: Any) -> None:
    """Takes off the operators that quantize the input and those that dequantize outputs."""
    kinds = {id(operator): kind_of(model, operator) for operator in graph.operators}
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    for operator in list(graph.operators):
        source, result = operator.inputs[0], operator.outputs[0]
        readers = [other for other in graph.operators if source in other.inputs]
        if kinds[id(operator)] == schema.BuiltinOperator.QUANTIZE and source in inputs and readers == [operator]:
            inputs[inputs.index(source)] = result
        elif kinds[id(operator)] == schema.BuiltinOperator.DEQUANTIZE and result in outputs:
            outputs[outputs.index(result)] = source
        else:
            continue
        graph.operators.remove(operator)
    graph.inputs, graph.outputs = inputs, outputs


def _widen_bias(model: Any, tensor: Any) -> None:
    data = model.buffers[tensor.buffer].data
    quantized = tensor.quantization is not None and tensor.quantization.scale is not None
    if tensor.type != schema.TensorType.INT32 or data is None or not quantized:
        return
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.frombuffer(bytes(data), np.int32).astype(np.int64).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer, tensor.type = len(model.buffers) - 1, schema.TensorType.INT64
