"""Changes of scale between integers, exact: LiteRT's CPU engine multiplies by a factor of 8 binary places.

XNNPACK's kernel for QUANTIZE of int8 values is therefore up to one step off; its kernel for MUL is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from resnet_backbones.export.litert.flatbuffer import Appender, kind_of, read_model, write_model

_INT8 = schema.TensorType.INT8
_PLACES = 256  # of XNNPACK's factor: 8 binary places


def with_exact_scales(data: bytes) -> bytes:
    """Multiplies by one where int8 values change their scale by a factor that does not fit into 8 binary places.

    Args:
        data: the file.

    Returns:
        The file, every other operator as it was.
    """
    model, one = read_model(data), None
    add = Appender(model)
    for operator in model.subgraphs[0].operators:
        if kind_of(model, operator) != schema.BuiltinOperator.QUANTIZE or not _is_rounded(add.graph, operator):
            continue
        one = _one(add) if one is None else one
        options = schema.BuiltinOptions.MulOptions, schema.MulOptionsT()
        add.operator(
            schema.BuiltinOperator.MUL, [operator.inputs[0], one], operator.outputs, version=2, options=options
        )
        vars(operator).update(vars(add.graph.operators.pop()))  # in the place of the other
    return data if one is None else write_model(model)


def _is_rounded(graph: Any, operator: Any) -> bool:
    """Whether an operator's factor loses more than a 256th of a step of the largest value."""
    ends = [graph.tensors[place[0]] for place in (operator.inputs, operator.outputs)]
    if any(tensor.type != _INT8 for tensor in ends):
        return False
    source, result = (float(tensor.quantization.scale[0]) for tensor in ends)
    factor = source / result * _PLACES
    return abs(factor - round(factor)) > 1 / _PLACES


def _one(add: Appender) -> int:
    """The constant one in int8, for all such operators."""
    index = add.tensor("one", [])
    tensor = add.graph.tensors[index]
    tensor.type, tensor.buffer = _INT8, add.buffer(np.int8(1).tobytes())
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = np.float32([1.0]), np.int64([0])
    return index
