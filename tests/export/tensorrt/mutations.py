"""The good graph broken in one way each, and the rule that shall say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from .good_graph import (
    add_node,
    constant,
    node,
    put_between,
    put_pair,
    read_instead,
    remove,
    remove_pair,
    set_attribute,
    set_constant,
)


@dataclass(frozen=True)
class Mutation:
    """One way to break the good graph.

    Attributes:
        rule: that catches it.
        severity: of what it finds.
        at: node it finds it at.
        breaks: (model, folder) -> ``None`` where it changed the model in place, else the path of a file to check.
        also: further rules that have something to say about it.
    """

    rule: str
    severity: str
    at: str
    breaks: Callable[[onnx.ModelProto, Path], Any]
    also: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.rule}-{self.breaks.__name__}"


MUTATIONS: list[Mutation] = []


def breaks(rule: str, severity: str = "error", at: str = "graph", also: tuple[str, ...] = ()):
    """Adds the decorated function to :data:`MUTATIONS`."""

    def register(function):
        MUTATIONS.append(Mutation(rule, severity, at, function, frozenset(also)))
        return function

    return register


# --- the file ------------------------------------------------------------------------------------------------------


@breaks("valid")
def a_node_without_its_input(model, folder):
    del node(model, "flat").input[:]


@breaks("opset", also=("valid",))
def opset_without_axes(model, folder):
    model.opset_import[0].version = 12


@breaks("opset", "warning")
def old_opset(model, folder):
    model.opset_import[0].version = 15


@breaks("opset", "warning", also=("valid",))
def opset_of_the_future(model, folder):
    model.opset_import[0].version = 99


@breaks("operators", at="stem/relu")
def another_vendors_operator(model, folder):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    node(model, "stem/relu").domain = "com.microsoft"
    node(model, "stem/relu").op_type = "QuickGelu"


@breaks("operators", at="integers", also=("pairs",))
def integer_arithmetic(model, folder):
    kernel = set_constant(model, "integers/kernel", np.ones((16, 16, 1, 1), np.int8))
    put_between(model, "two/relu1/q", "two/relu1/dq", "ConvInteger", "integers", kernel)
    put_between(model, "integers", "two/relu1/dq", "Cast", "back", to=TensorProto.INT8)


@breaks("valid")
def a_circle(model, folder):
    read_instead(model, "one/conv1", "pool/dq", "one/relu1/dq")
    read_instead(model, "one/relu1/dq", "one/relu1/q", "one/conv1/kernel/dq")
    read_instead(model, "one/conv1/kernel/dq", "one/conv1/kernel", "one/relu1/dq")


@breaks("operators", at="pool")
def dilated_pooling(model, folder):
    set_attribute(model, "pool", "dilations", [2, 2])


@breaks("operators", at="pool")
def pooling_with_indices(model, folder):
    node(model, "pool").output.append("indices")


@breaks("external-data")
def lost_weights(model, folder):
    path = folder / "model.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "weights.bin").unlink()
    return path


@breaks("external-data", "warning")
def weights_beside_the_file(model, folder):
    path = folder / "model.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


@breaks("dtypes", at="image")
def unsigned_16_bit_image(model, folder):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT16
    put_between(model, "image", "image/q", "Cast", "cast", to=TensorProto.FLOAT)


@breaks("dtypes", "warning", at="wide")
def double_precision(model, folder):
    put_between(model, "flat", "head", "Cast", "wide", to=TensorProto.DOUBLE)
    put_between(model, "wide", "head", "Cast", "narrow", to=TensorProto.FLOAT)


@breaks("dynamic-shapes", "warning", "image")
def open_height(model, folder):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


@breaks("in-int8", "warning", "two/conv1")
def float_layer_in_the_middle(model, folder):
    read_instead(model, "two/conv1", "one/relu2/dq", "one/relu2")
    _float_kernel(model, "two/conv1")


@breaks("in-int8", "warning", also=("foldable",))
def nothing_quantized(model, folder):
    for one in [one.name for one in model.graph.node if one.op_type == "QuantizeLinear"]:
        remove(model, one.removesuffix("/q") + "/dq", one)
    for one in [one.name for one in model.graph.node if one.op_type == "Conv"]:
        _float_kernel(model, one)


def _float_kernel(model, layer):
    scale = constant(model, f"{layer}/kernel/scale").reshape(-1, 1, 1, 1)
    set_constant(model, f"{layer}/kernel", constant(model, f"{layer}/kernel").astype("f4") * scale)
    remove(model, f"{layer}/kernel/dq")


# --- Q and DQ themselves -------------------------------------------------------------------------------------------


@breaks("int8", at="one/relu1/q")
def unsigned_activation(model, folder):
    set_constant(model, "unsigned", np.uint8(0))
    read_instead(model, "one/relu1/q", "zero", "unsigned")
    read_instead(model, "one/relu1/dq", "zero", "unsigned")


@breaks("int8", at="one/relu1/q")
def no_zero_point(model, folder):
    """ONNX takes uint8 where none is given."""
    del node(model, "one/relu1/q").input[2]
    del node(model, "one/relu1/dq").input[2]


@breaks("zero-points", at="one/relu1/q")
def asymmetric_activation(model, folder):
    set_constant(model, "three", np.int8(3))
    read_instead(model, "one/relu1/q", "zero", "three")
    read_instead(model, "one/relu1/dq", "zero", "three")


@breaks("zero-points", at="one/conv1/kernel/dq")
def fewer_zero_points_than_scales(model, folder):
    set_constant(model, "one/conv1/kernel/zero", np.zeros(1, np.int8))


@breaks("scales", at="one/conv1/kernel/dq")
def dead_channel(model, folder):
    scale = constant(model, "one/conv1/kernel/scale").copy()
    scale[3] = 0
    set_constant(model, "one/conv1/kernel/scale", scale)


@breaks("scales", at="image/q")
def negative_scale(model, folder):
    set_constant(model, "image/scale", np.float32(-0.1))


@breaks("scales", at="image/q")
def infinite_scale(model, folder):
    set_constant(model, "image/scale", np.float32("inf"))


@breaks("constant-scales", at="one/relu1/q")
def computed_scale(model, folder):
    half = set_constant(model, "half", np.float32(0.5))
    add_node(model, "one/relu1/q", "Mul", "computed", "one/relu1/scale", half)
    read_instead(model, "one/relu1/q", "one/relu1/scale", "computed")
    read_instead(model, "one/relu1/dq", "one/relu1/scale", "computed")


@breaks("per-tensor", at="one/relu1/q")
def a_scale_a_channel_of_an_activation(model, folder):
    set_constant(model, "one/relu1/scale", np.full(8, 0.05, np.float32))
    set_constant(model, "zeros", np.zeros(8, np.int8))
    for name in ("one/relu1/q", "one/relu1/dq"):
        read_instead(model, name, "zero", "zeros")
        set_attribute(model, name, "axis", 1)


@breaks("pairs", at="left over/q")
def quantized_for_nobody(model, folder):
    add_node(model, "two/conv1", "QuantizeLinear", "left over/q", "one/relu2", "one/relu2/scale", "zero")


@breaks("pairs", at="left over/dq")
def dequantized_for_nobody(model, folder):
    add_node(model, "two/conv1", "DequantizeLinear", "left over/dq", "one/relu2/q", "one/relu2/scale", "zero")


@breaks("pairs", at="one/relu1/dq")
def other_scale_in_dq(model, folder):
    set_constant(model, "other", np.float32(0.07))
    read_instead(model, "one/relu1/dq", "one/relu1/scale", "other")


@breaks("pairs", at="stem/relu/q", also=("max-pool", "half-quantized", "residual-shortcut", "requantized"))
def pooled_integers(model, folder):
    """The pooling between Q and DQ."""
    remove(model, "stem/relu/dq", "pool/q")


@breaks("pairs", "warning", "flat/q", also=("needless",))
def integers_as_output(model, folder):
    step = set_constant(model, "flat/scale", np.float32(0.1))
    add_node(model, "head", "QuantizeLinear", "flat/q", "flat", step, "zero")
    model.graph.output.append(helper.make_tensor_value_info("flat/q", TensorProto.INT8, ["batch", 16]))


@breaks("requantized", at="again/q")
def rounded_twice(model, folder):
    put_pair(model, "one/relu1/dq", "one/conv2", "again", scale=0.06)


@breaks("requantized", "warning", at="again/q")
def the_same_pair_twice(model, folder):
    put_pair(model, "one/relu1/dq", "one/conv2", "again")


@breaks("one-scale", "warning", "shortcut/q")
def another_scale_for_the_shortcut(model, folder):
    read_instead(model, "two/projection", "one/relu2/dq", "one/relu2")
    put_pair(model, "one/relu2", "two/projection", "shortcut", scale=0.06)


@breaks("foldable", at="one/conv1/kernel/q")
def computed_kernel(model, folder):
    _quantized_in_the_file(model, "one/conv1")
    put_between(model, "one/conv1/kernel", "one/conv1/kernel/q", "Mul", "scaled", "image/scale")


@breaks("foldable", "info", "one/conv1/kernel/q")
def float_kernel_behind_q(model, folder):
    _quantized_in_the_file(model, "one/conv1")


def _quantized_in_the_file(model, layer):
    """A float kernel, a Q and a DQ."""
    scale = constant(model, f"{layer}/kernel/scale").reshape(-1, 1, 1, 1)
    set_constant(model, f"{layer}/kernel", constant(model, f"{layer}/kernel").astype("f4") * scale)
    more = (f"{layer}/kernel/scale", f"{layer}/kernel/zero")
    put_between(model, f"{layer}/kernel", f"{layer}/kernel/dq", "QuantizeLinear", f"{layer}/kernel/q", *more, axis=0)


# --- kernels -------------------------------------------------------------------------------------------------------


@breaks("per-channel", at="one/conv1")
def scales_on_input_channels(model, folder):
    set_attribute(model, "one/conv1/kernel/dq", "axis", 1)


@breaks("per-channel", "warning", "one/conv1")
def one_scale_for_a_kernel(model, folder):
    set_constant(model, "one/conv1/kernel/scale", np.float32(0.01))
    set_constant(model, "one/conv1/kernel/zero", np.int8(0))


@breaks("per-channel", at="two/conv1")
def scales_missing(model, folder):
    set_constant(model, "two/conv1/kernel/scale", np.full(8, 0.01, np.float32))
    set_constant(model, "two/conv1/kernel/zero", np.zeros(8, np.int8))


@breaks("kernel-direct", at="one/conv1")
def kernel_transposed_behind_dq(model, folder):
    put_between(model, "one/conv1/kernel/dq", "one/conv1", "Transpose", "turned", perm=[0, 1, 3, 2])


@breaks("kernel-once", at="one/conv1", also=("requantized", "foldable"))
def kernel_quantized_twice(model, folder):
    scale, zero = "one/conv1/kernel/scale", "one/conv1/kernel/zero"
    put_between(model, "one/conv1/kernel/dq", "one/conv1", "QuantizeLinear", "again/q", scale, zero, axis=0)
    put_between(model, "again/q", "one/conv1", "DequantizeLinear", "again/dq", scale, zero, axis=0)


@breaks("half-quantized", at="one/conv2", also=("elementwise",))
def float_input(model, folder):
    remove_pair(model, "one/relu1")


@breaks("half-quantized", at="one/conv2", also=("elementwise", "in-int8"))
def float_kernel(model, folder):
    _float_kernel(model, "one/conv2")


@breaks("half-quantized", "warning", at="head", also=("average-pool",))
def quantized_input_of_a_float_head(model, folder):
    put_pair(model, "flat", "head", "flat")


@breaks("input-direct", "warning", "one/conv2")
def padding_before_a_convolution(model, folder):
    set_attribute(model, "one/conv2", "pads", [0, 0, 0, 0])
    pads = set_constant(model, "pads", np.int64([0, 0, 1, 1, 0, 0, 1, 1]))
    put_between(model, "one/relu1/dq", "one/conv2", "Pad", "pad", pads)


@breaks("float-bias", at="one/conv2", also=("int8",))
def integer_bias(model, folder):
    set_constant(model, "one/conv2/bias", np.arange(8, dtype=np.int32))
    scale = set_constant(model, "bias/scale", np.full(8, 0.001, np.float32))
    put_between(model, "one/conv2/bias", "one/conv2", "DequantizeLinear", "bias/dq", scale, axis=0)


# --- fusion --------------------------------------------------------------------------------------------------------


def _batch_norm(model, tensor, reader):
    values = [set_constant(model, f"norm/{i}", np.full(8, value, np.float32)) for i, value in enumerate((1, 0, 0, 1))]
    put_between(model, tensor, reader, "BatchNormalization", "norm", *values)


@breaks("batch-norm", at="norm")
def quantized_before_batch_norm(model, folder):
    _batch_norm(model, put_pair(model, "one/conv1", "one/relu1", "early"), "one/relu1")


@breaks("batch-norm", "warning", at="norm")
def batch_norm_not_folded(model, folder):
    _batch_norm(model, "one/conv1", "one/relu1")


@breaks("activation", at="one/relu1")
def quantized_before_its_activation(model, folder):
    put_pair(model, "one/conv1", "one/relu1", "early")


@breaks("activation", at="gate", also=("elementwise",))
def quantized_before_silu(model, folder):
    put_between(model, "one/conv1", "one/relu1", "Sigmoid", "gate")
    node(model, "one/relu1").op_type = "Mul"
    node(model, "one/relu1").input.append("one/conv1")
    put_pair(model, "one/conv1", "gate", "early")
    read_instead(model, "one/relu1", "one/conv1", "early/dq")


@breaks("activation", at="shift")
def quantized_within_a_hard_sigmoid(model, folder):
    three = set_constant(model, "three", np.float32(3))
    put_between(model, "one/conv1", "one/relu1", "Add", "shift", three)
    put_pair(model, "one/conv1", "shift", "early")


@breaks("add-activation", at="one/relu2")
def quantized_between_addition_and_activation(model, folder):
    put_pair(model, "one/add", "one/relu2", "early")


@breaks("residual-branch", at="one/add")
def quantized_between_convolution_and_addition(model, folder):
    put_pair(model, "one/conv2", "one/add", "early")


@breaks("residual-branch", at="two/add")
def both_branches_quantized(model, folder):
    put_pair(model, "two/conv2", "two/add", "early")


@breaks("residual-shortcut", at="one/add")
def float_identity_shortcut(model, folder):
    read_instead(model, "one/add", "pool/dq", "pool")
    put_between(model, "pool", "one/add", "Sigmoid", "gone")  # else it is quantized: pooling commutes


@breaks("residual-shortcut", at="two/add")
def float_projection_shortcut(model, folder):
    remove_pair(model, "two/projection")


@breaks("elementwise", "warning", "gate")
def quantized_times_float(model, folder):
    put_between(model, "one/relu1", "one/relu1/q", "Mul", "gate", "pool/dq")


@breaks("needless", "warning", "flat/dq", also=("average-pool",))
def quantized_before_softmax(model, folder):
    put_between(model, "flat", "head", "Softmax", "softmax")
    put_pair(model, "flat", "softmax", "flat")


@breaks("needless", "warning", "result/dq")
def quantized_output(model, folder):
    node(model, "head").output[0] = "scores"
    step = set_constant(model, "result/scale", np.float32(0.1))
    model.graph.node.append(helper.make_node("QuantizeLinear", ["scores", step, "zero"], ["result/q"], name="result/q"))
    model.graph.node.append(
        helper.make_node("DequantizeLinear", ["result/q", step, "zero"], ["head"], name="result/dq")
    )


# --- pooling, transposes -------------------------------------------------------------------------------------------


@breaks("average-pool", "warning", "mean")
def float_average(model, folder):
    remove_pair(model, "two/relu2")


@breaks("max-pool", "warning", "pool")
def other_scale_behind_the_pooling(model, folder):
    set_constant(model, "pool/scale", np.float32(0.06))


@breaks("max-pool", "warning", "last pool", also=("average-pool",))
def float_pooling(model, folder):
    remove_pair(model, "two/relu2")
    put_between(model, "two/relu2", "mean", "MaxPool", "last pool", kernel_shape=[1, 1])


@breaks("transpose", at="to NHWC")
def transposes_among_layers(model, folder):
    put_between(model, "one/relu2", "one/relu2/q", "Transpose", "to NHWC", perm=[0, 2, 3, 1])
    put_between(model, "to NHWC", "one/relu2/q", "Transpose", "to NCHW", perm=[0, 3, 1, 2])
