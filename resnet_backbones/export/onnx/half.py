"""Half precision."""

from __future__ import annotations

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from resnet_backbones.export.onnx.nodes import Graph


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores and computes in float16, with input and outputs in float32.

    Args:
        model: in float32.
    """
    return Graph(convert_float_to_float16(model, keep_io_types=True)).to_model()  # it appends its casts: sort them in
