"""A TensorFlow function as an ONNX graph, by tf2onnx; fake quantization becomes Q/DQ with exactly its scale.

Quantized kernels are inputs of the function (``context.EXPORT_PLAIN``), so tf2onnx neither folds nor changes them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from tf2onnx import optimizer, tf_loader, tfonnx
from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

from resnet_backbones.export.graph import ExportGraph
from resnet_backbones.export.onnx.resizing import resize_as_tensorflow
from resnet_backbones.export.problems import NoFormError

OPSET = 17
# Left out: what removes Q/DQ pairs, and the merging of equal constants. Kernels of heads that pyramid levels share
# must stay apart until the end, for tf2onnx multiplies batch norms into a kernel in place.
_LEFT_OUT = ("q_dq_optimizer", "const_dequantize_optimizer", "merge_duplication", "loop_optimizer", "einsum_optimizer")


class _TransposeOptimizer(TransposeOptimizer):
    """tf2onnx's, which moves transpositions together until they cancel, but for sums and products."""

    def _add_handler(self, trans, node):
        """Leaves biases where they are: tf2onnx adds them in place, and names the convolution anew.

        Our own folding keeps the layer's name, by which a file's kernels are compared with the model's.
        """
        return self._handle_node_having_branches(trans, node)

    def _mul_handler(self, trans, node):
        """Takes a transposition past a product with anything, where tf2onnx wants the other factor transposed too.

        Efficient channel attention's gate is one reshaped: to transpose it instead costs nothing. So do the slopes of a
        PReLU, a constant of lower rank.
        """
        if super()._mul_handler(trans, node):
            return True
        images = all(len(self._g.get_shape(n.output[0]) or ()) == 4 or n.is_const() for n in node.inputs)
        return images and self._handle_node_having_branches(trans, node)


def to_onnx(graph: ExportGraph, *, layout: str, signed: bool) -> onnx.ModelProto:
    """Converts the function.

    Args:
        graph: what ``build_graph`` made.
        layout: of the image input, ``"NHWC"`` or ``"NCHW"``.
        signed: quantize to int8, with a zero point of 0 where the range is symmetric; else to uint8.

    Returns:
        The ONNX model. Its inputs are the images and the kernels, its outputs are called as the parts of the graph.

    Raises:
        NoFormError: the model holds operations that ONNX has no form for.
    """
    function = graph.function
    names = [graph.input_name, *graph.kernel_names]
    inputs = [tensor.name for tensor in function.inputs[: len(names)]]  # after them: variables and constants captured
    outputs = [tensor.name for tensor in function.outputs]
    renamed = dict(zip(inputs, names, strict=True)) | dict(zip(outputs, graph.part_names, strict=True))
    with tf.device("/cpu:0"):
        frozen = tf_loader.from_function(function, inputs, outputs)
    with tf.Graph().as_default() as tf_graph:
        tf.import_graph_def(frozen, name="")
        converted = tfonnx.process_tf_graph(
            tf_graph,
            opset=OPSET,
            custom_op_handlers={
                "FakeQuantWithMinMaxVars": (_quantize_and_dequantize, ["FakeQuant", signed]),
                "Erfc": (_one_minus_erf, []),
                "Expm1": (_exp_minus_one, []),
                "Log1p": (_log_of_one_more, []),
                "Any": (_any_or_all, ["Any", "ReduceMax"]),
                "All": (_any_or_all, ["All", "ReduceMin"]),
            },
            inputs_as_nchw=inputs[:1] if layout == "NCHW" and len(graph.input_shape) == 4 else None,
            input_names=inputs,
            output_names=outputs,
            tensors_to_rename=renamed,
        )
        _check_known(converted)
        resize_as_tensorflow(converted)
        steps = optimizer._get_optimizers()
        wanted = OrderedDict((name, step) for name, step in steps.items() if name not in _LEFT_OUT)
        wanted["optimize_transpose"] = _TransposeOptimizer
        return optimizer.optimize_graph(converted, catch_errors=False, optimizers=wanted).make_model("resnet_backbones")


def quantization_parameters(low: Any, high: Any, bits: int, narrow: bool) -> tuple[np.float32, int]:
    """Scale and unsigned zero point of TensorFlow's fake quantization, which moves a range to have an exact zero.

    Args:
        low: lower end of the range.
        high: upper end.
        bits: of the integers.
        narrow: whether the lowest integer is left out.

    Source: the definition of FakeQuantWithMinMaxVars,
    https://www.tensorflow.org/api_docs/python/tf/quantization/fake_quant_with_min_max_vars
    """
    least, most = np.float32(narrow), np.float32(2**bits - 1)
    scale = (np.float32(high) - np.float32(low)) / (most - least)
    return scale, int(np.clip(np.round(least - np.float32(low) / scale), least, most))


def _quantize_and_dequantize(context: Any, node: Any, name: str, args: list[Any]) -> None:
    """tf2onnx's handler of FakeQuantWithMinMaxVars."""
    (signed,) = args
    low, high = (bound.get_tensor_value(as_list=False) for bound in node.inputs[1:3])
    narrow, bits = bool(node.get_attr_value("narrow_range")), node.get_attr_value("num_bits")
    scale, zero = quantization_parameters(low, high, bits, narrow)
    integers = np.int8(zero - 2 ** (bits - 1)) if signed else np.uint8(zero)
    parameters = [
        context.make_const(tf2onnx.utils.make_name(f"{name}_{what}"), np.asarray(value)).output[0]
        for what, value in (("scale", scale), ("zero_point", integers))
    ]
    source, output = node.input[0], node.output[0]
    shape, dtype = context.get_shape(output), context.get_dtype(output)
    context.remove_node(node.name)
    kind = onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8
    quantized = context.make_node(
        "QuantizeLinear", [source, *parameters], name=f"{name}_q", shapes=[shape], dtypes=[kind]
    )
    context.make_node(
        "DequantizeLinear",
        [quantized.output[0], *parameters],
        outputs=[output],
        name=f"{name}_dq",
        shapes=[shape],
        dtypes=[dtype],
    )


def _one_minus_erf(context: Any, node: Any, name: str, _: list[Any]) -> None:
    """tf2onnx's handler of Erfc, of which TensorFlow makes the exact GELU."""
    one = context.make_const(tf2onnx.utils.make_name(f"{name}_one"), np.float32(1)).output[0]
    _instead(context, node, "Erf", lambda inner: ("Sub", [one, inner]))


def _exp_minus_one(context: Any, node: Any, name: str, _: list[Any]) -> None:
    """tf2onnx's handler of Expm1, of which Keras makes CELU."""
    one = context.make_const(tf2onnx.utils.make_name(f"{name}_one"), np.float32(1)).output[0]
    _instead(context, node, "Exp", lambda inner: ("Sub", [inner, one]))


def _log_of_one_more(context: Any, node: Any, name: str, _: list[Any]) -> None:
    """tf2onnx's handler of Log1p."""
    one = context.make_const(tf2onnx.utils.make_name(f"{name}_one"), np.float32(1)).output[0]
    _instead(context, node, "Add", lambda inner: ("Log", [inner]), [one])


def _any_or_all(context: Any, node: Any, name: str, args: list[Any]) -> None:
    """tf2onnx's handler of Any and All, of which Keras makes masks: extremes of zeros and ones."""
    source, output = node.input[0], node.output[0]
    axes, kept = (
        np.atleast_1d(node.inputs[1].get_tensor_value(as_list=False)).tolist(),
        node.get_attr_value("keep_dims"),
    )
    shape, whole = context.get_shape(output), onnx.TensorProto.INT32
    context.remove_node(node.name)
    number = context.make_node("Cast", [source], attr={"to": whole}, name=f"{name}_as_number").output[0]
    attributes = {"axes": axes, "keepdims": int(kept)}
    extreme = context.make_node(args[0], [number], attr=attributes, shapes=[shape], dtypes=[whole]).output[0]
    kind = onnx.TensorProto.BOOL
    context.make_node("Cast", [extreme], attr={"to": kind}, outputs=[output], name=name, shapes=[shape], dtypes=[kind])


def _instead(context: Any, node: Any, inner: str, outer: Any, others: Sequence[str] = ()) -> None:
    """Two operators in place of one: ``inner`` of its input and others, and of that what ``outer`` says."""
    source, output = node.input[0], node.output[0]
    facts = {"shapes": [context.get_shape(output)], "dtypes": [context.get_dtype(output)]}
    context.remove_node(node.name)
    first = context.make_node(inner, [source, *others], name=f"{node.name}_{inner.lower()}", **facts).output[0]
    kind, inputs = outer(first)
    context.make_node(kind, inputs, outputs=[output], name=node.name, **facts)


def _check_known(graph: Any) -> None:
    """tf2onnx only logs operations it cannot convert, and leaves them in the graph."""
    unknown = sorted(
        {f"{node.type} ({node.name})" for node in graph.get_nodes() if not node.is_const() and not _is_onnx(node)}
    )
    if unknown:
        raise NoFormError(f"it has no form of {', '.join(unknown[:5])}{' and others' if len(unknown) > 5 else ''}")


def _is_onnx(node: Any) -> bool:
    return bool(node.domain) or node.type == "Placeholder" or onnx.defs.has(node.type)
