"""What is in a LiteRT file: operators by type, multiply-accumulates, and what is not int8."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from resnet_backbones.export.contents import Census, Operator
from resnet_backbones.export.litert.flatbuffer import kind_of, read_model

_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_TYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}


def take_census(data: bytes) -> Census:
    """Counts what is in a LiteRT file.

    Args:
        data: the file's bytes.

    Returns:
        The census of its main subgraph.
    """
    model = read_model(data)
    graph = model.subgraphs[0]
    census = Census()
    for operator in graph.operators:
        kind = _OPERATORS.get(kind_of(model, operator), "CUSTOM")
        inputs = [graph.tensors[i] for i in operator.inputs if i >= 0]
        output, *others = [graph.tensors[i] for i in operator.outputs]
        census.operators.append(
            Operator(
                kind,
                _compute_type(kind, inputs, output),
                output.name.decode(),
                _macs(kind, inputs, output),
                tuple(tensor.name.decode() for tensor in inputs),
                tuple(tensor.name.decode() for tensor in others),
            )
        )
        if kind in _OPAQUE or kind.startswith("STABLEHLO_"):
            census.opaque.append(census.operators[-1])
    return census


def _compute_type(kind: str, inputs: list[Any], output: Any) -> str:
    """The type an operator computes in: its data's, so that int8 weights beside float data count as float."""
    if kind == "DEQUANTIZE":  # of weights stored in a smaller type, or of data on its way out of int8
        return _TYPES[output.type]
    if kind == "QUANTIZE":
        return _TYPES[inputs[0].type]
    return _TYPES[output.type]


def _macs(kind: str, inputs: list[Any], output: Any) -> int:
    """Multiply-accumulates of one operator, for one image."""
    if kind in ("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE"):
        _, kernel, data = inputs[:3]
        between = (
            kernel.shape[:3] if kind == "TRANSPOSE_CONV" else kernel.shape[:4]
        )  # all axes but the input's channels
        return int(np.prod(data.shape) * np.prod(between))
    if kind in _RECURRENT:
        steps = int(np.prod(inputs[0].shape[:2]))
        return steps * sum(int(np.prod(tensor.shape)) for tensor in inputs[1:] if _rank(tensor) == 2)
    # Products summed into one output value: all of a filter but its output axis (first, but for depthwise and 3D).
    if kind == "DEPTHWISE_CONV_2D":
        per_value = np.prod(inputs[1].shape[1:3])
    elif kind == "CONV_3D":
        per_value = np.prod(inputs[1].shape[:4])
    elif kind == "BATCH_MATMUL":
        per_value = inputs[0].shape[-1]
    elif kind in ("CONV_2D", "FULLY_CONNECTED"):
        per_value = np.prod(inputs[1].shape[1:])
    else:
        return 0
    return int(np.prod(output.shape) * per_value)


def _rank(tensor: Any) -> int:
    return 0 if tensor.shape is None else len(tensor.shape)


_RECURRENT = (
    "LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN",
)  # fmt: skip
# What runs other graphs, is no operator of LiteRT's own, or a transform: how much it computes cannot be read off it.
_OPAQUE = (
    "CALL", "CALL_ONCE", "CONCAT_EMBEDDINGS", "CUSTOM", "DELEGATE", "EMBEDDING_LOOKUP_SPARSE", "IF", "LSH_PROJECTION",
    "RFFT2D", "WHILE",
)  # fmt: skip
