"""Sums and differences of 16-bit values whose scales are powers of two, by LiteRT's general kernel.

LiteRT has another kernel for these, which takes only inputs of which one has the scale of the result, and neither a
larger one. Files choose it unless they say otherwise; such scales come of ranges that end at powers of two, as those
of ``ReLU(0.5)`` do.
"""

from __future__ import annotations

import math
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from resnet_backbones.export.litert.flatbuffer import kind_of, read_model, write_model

_ADD, _SUB = schema.BuiltinOperator.ADD, schema.BuiltinOperator.SUB
_VERSIONS = {_ADD: 3, _SUB: 5}  # of the operators that can say so
_NEAR = 2e-3  # LiteRT takes a scale for a power of two whose logarithm is 1e-3 off


def with_general_sums(data: bytes) -> bytes:
    """Chooses the general kernel where LiteRT would choose the other.

    Args:
        data: the file.

    Returns:
        The file, every other operator as it was.
    """
    model = read_model(data)
    graph, changed = model.subgraphs[0], False
    for operator in graph.operators:
        kind = kind_of(model, operator)
        if kind in _VERSIONS and all(_is_power(graph.tensors[i]) for i in (*operator.inputs, *operator.outputs)):
            operator.builtinOptions.potScaleInt16 = False
            code = model.operatorCodes[operator.opcodeIndex]
            code.version, changed = max(code.version, _VERSIONS[kind]), True
    return write_model(model) if changed else data


def _is_power(tensor: Any) -> bool:
    """Whether a tensor has 16 bits and a scale near a power of two."""
    if tensor.type != schema.TensorType.INT16 or tensor.quantization is None or tensor.quantization.scale is None:
        return False
    exponent = math.log2(tensor.quantization.scale[0])
    return abs(exponent - round(exponent)) < _NEAR
