"""Conversion to LiteRT (``.tflite``), and the names of inputs and outputs in the file."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from resnet_backbones.export.flatbuffer import read_model, write_model
from resnet_backbones.export.graph import ExportGraph
from resnet_backbones.export.int16 import with_integer_ends


def convert(graph: ExportGraph, precision: str) -> bytes:
    """Converts the function to a LiteRT file.

    Args:
        graph: what :func:`build_graph` made.
        precision: ``"float32"``, ``"float16"`` (weights stored as float16) or ``"int8"`` (the function holds fake
            quantization; input and outputs are integers too, int16 where the quantization has 16 bits).

    Returns:
        The file's bytes, with a ``serving_default`` signature that names input and outputs.
    """
    # No Keras object as second argument: the converter then freezes the function itself, which keeps the ranges
    # constants; and no representative data: every range is in the function.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.function])
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    wide = precision == "int8" and _has_int16(graph)
    if precision == "int8" and not wide:
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        # Asks for the input's range, which the function holds.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        data = converter.convert()
    return _with_signature(with_integer_ends(data) if wide else data, graph)


def _has_int16(graph: ExportGraph) -> bool:
    """Whether the function holds fake quantization to 16 bits."""
    operations = graph.function.graph.get_operations()
    return any(op.type.startswith("FakeQuant") and op.get_attr("num_bits") == 16 for op in operations)


def _with_signature(data: bytes, graph: ExportGraph) -> bytes:
    model = read_model(data)
    subgraph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [_tensor_map(graph.input_name, subgraph.inputs[0])]
    signature.outputs = [_tensor_map(n, i) for n, i in zip(graph.part_names, subgraph.outputs, strict=True)]
    model.signatureDefs = [signature]
    return write_model(model)


def _tensor_map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, int(index)
    return entry


def output_steps(data: bytes, graph: ExportGraph) -> dict[str, np.ndarray]:
    """The size of one int8 step of every value of every output, parts joined as the runtime joins them.

    Returns:
        Output name -> array of the output's shape (batch 1); outputs that are not quantized are left out.
    """
    subgraph = read_model(data).subgraphs[0]
    steps = {}
    for name, index in zip(graph.part_names, subgraph.outputs, strict=True):
        tensor = subgraph.tensors[index]
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            steps[name] = np.full(tensor.shape, tensor.quantization.scale[0], np.float32)
    return {
        output["name"]: np.concatenate([steps[part] for part in output["parts"]], output["axis"])
        for output in graph.outputs
        if all(part in steps for part in output["parts"])
    }
