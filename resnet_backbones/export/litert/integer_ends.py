"""Files of integers from end to end, where the converter makes none itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from resnet_backbones.export.litert.flatbuffer import kind_of, read_model, write_model


def with_integer_ends(data: bytes, *, uint8_input: bool = False) -> bytes:
    """Makes a file that was converted with float ends one that takes and gives integers.

    With int16 activations the converter wants all ends to be int16, and it breaks a file in which a layer in float
    reads an output too. So the operators that convert at the ends are taken off here. It also writes the biases of
    int16 activations in 32 bits, which LiteRT's kernels read as, or refuse for, 64 bits.

    Args:
        data: the file as it was converted, input and outputs float.
        uint8_input: take the int8 input as uint8.

    Returns:
        The file mended.
    """
    model = read_model(data)
    graph = model.subgraphs[0]
    _remove_ends(model, graph, uint8_input)
    for operator in graph.operators:
        if len(operator.inputs) > 2 and graph.tensors[operator.outputs[0]].type == schema.TensorType.INT16:
            _widen_bias(model, graph.tensors[operator.inputs[-1]])
    return write_model(model)


def reads_nothing(data: bytes) -> bool:
    """Whether an operator lacks an input that it needs, the last of convolutions aside, which is their bias.

    The converter leaves such a file where it took off the conversion of an output that another operator reads.

    Args:
        data: the file as it was converted, input and outputs integers.
    """
    model = read_model(data)
    return any(
        -1 in (operator.inputs[:-1] if len(operator.inputs) > 2 else operator.inputs)
        for operator in model.subgraphs[0].operators
        if kind_of(model, operator) not in _MANY_OPTIONAL
    )


def _remove_ends(model: Any, graph: Any, uint8_input: bool) -> None:
    """Takes off the operators that quantize the input and those that dequantize outputs for nothing else."""
    kinds = {id(operator): kind_of(model, operator) for operator in graph.operators}
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    for operator in list(graph.operators):
        source, result = operator.inputs[0], operator.outputs[0]
        readers = [other for other in graph.operators if source in other.inputs]
        if kinds[id(operator)] == schema.BuiltinOperator.QUANTIZE and source in inputs and readers == [operator]:
            if uint8_input:
                _as_uint8(graph.tensors[source], graph.tensors[result])
                continue
            inputs[inputs.index(source)] = result
        elif kinds[id(operator)] == schema.BuiltinOperator.DEQUANTIZE and result in outputs:
            outputs = [source if output == result else output for output in outputs]
            if any(result in other.inputs for other in graph.operators):
                continue
        else:
            continue
        graph.operators.remove(operator)
    graph.inputs, graph.outputs = inputs, outputs


def _as_uint8(tensor: Any, int8: Any) -> None:
    """Gives a float tensor the scale of an int8 one, with a zero point of uint8."""
    tensor.type, tensor.quantization = schema.TensorType.UINT8, schema.QuantizationParametersT()
    tensor.quantization.scale = int8.quantization.scale
    tensor.quantization.zeroPoint = np.asarray(int8.quantization.zeroPoint, np.int64) + 128


def _widen_bias(model: Any, tensor: Any) -> None:
    data = model.buffers[tensor.buffer].data
    quantized = tensor.quantization is not None and tensor.quantization.scale is not None
    if tensor.type != schema.TensorType.INT32 or data is None or not quantized:
        return
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.frombuffer(bytes(data), np.int32).astype(np.int64).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer, tensor.type = len(model.buffers) - 1, schema.TensorType.INT64


# Operators any input of which may be left out.
_MANY_OPTIONAL = frozenset(
    {
        schema.BuiltinOperator.LSTM,
        schema.BuiltinOperator.RNN,
        schema.BuiltinOperator.SVDF,
        schema.BuiltinOperator.CUSTOM,
        schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM,
        schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_RNN,
        schema.BuiltinOperator.BIDIRECTIONAL_SEQUENCE_LSTM,
        schema.BuiltinOperator.BIDIRECTIONAL_SEQUENCE_RNN,
    }
)
