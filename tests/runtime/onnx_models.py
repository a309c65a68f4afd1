"""Small ONNX files made by hand, each with its numpy twin."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KERNEL = np.random.default_rng(5).normal(0, 3, (3, 5)).astype("float32")


def classifier(*, layout="NHWC", batch=1, dtype=TensorProto.FLOAT, size=(8, 8), metadata=None) -> bytes:
    """The mean of an image's colours, mixed to five logits."""
    shape = [batch, *size, 3] if layout == "NHWC" else [batch, 3, *size]
    axes = [1, 2] if layout == "NHWC" else [2, 3]
    constants = [
        numpy_helper.from_array(np.array(axes, "int64"), "axes"),
        numpy_helper.from_array(KERNEL, "kernel"),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "kernel"], ["predictions"]),
    ]
    inputs = [helper.make_tensor_value_info("images", dtype, shape)]
    outputs = [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [batch, 5])]
    return serialized(nodes, inputs, outputs, constants, metadata)


def logits(images: np.ndarray) -> np.ndarray:
    """What ``classifier`` gives for images (N, H, W, 3)."""
    return np.asarray(images, np.float32).mean((1, 2)) @ KERNEL


def convolution(*, quantized: bool, batch=1, size=(32, 32)) -> bytes:
    """Two convolutions, a residual sum, pooling and a dense layer; ``quantized`` with Q/DQ and int8 kernels."""
    random = np.random.default_rng(6)
    nodes, constants = [], []

    def constant(name, values):
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def ranged(name, scale):
        if not quantized:
            return name
        ends = [constant(f"{name}_scale", np.float32(scale)), constant(f"{name}_zero", np.int8(0))]
        nodes.append(helper.make_node("QuantizeLinear", [name, *ends], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *ends], [f"{name}_dq"]))
        return f"{name}_dq"

    def kernel(name, shape):
        values = random.normal(0, 0.2, shape).astype("float32")
        if not quantized:
            return constant(name, values)
        scale = (np.abs(values).reshape(shape[0], -1).max(1) / 127).astype("float32")
        steps = np.round(values / scale.reshape(-1, *[1] * (len(shape) - 1))).astype("int8")
        ends = [constant(f"{name}_scale", scale), constant(f"{name}_zero", np.zeros(shape[0], "int8"))]
        nodes.append(helper.make_node("DequantizeLinear", [constant(f"{name}_q", steps), *ends], [name], axis=0))
        return name

    def conv(inputs, output, name, shape, **attributes):
        bias = constant(f"{name}_bias", random.normal(0, 0.1, shape[0]).astype("float32"))
        nodes.append(helper.make_node("Conv", [inputs, kernel(name, shape), bias], [output], **attributes))

    conv(ranged("images", 1 / 127), "a", "first", (8, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
    nodes.append(helper.make_node("Relu", ["a"], ["b"]))
    conv(ranged("b", 0.02), "c", "second", (8, 8, 3, 3), pads=[1, 1, 1, 1])
    nodes.append(helper.make_node("Add", ["c", "b"], ["d"]))
    nodes.append(helper.make_node("GlobalAveragePool", [ranged("d", 0.02)], ["e"]))
    nodes.append(helper.make_node("Flatten", ["e"], ["f"], axis=1))
    dense = constant("dense", random.normal(0, 1, (8, 5)).astype("float32"))
    nodes.append(helper.make_node("MatMul", ["f", dense], ["g"]))
    nodes.append(helper.make_node("Softmax", ["g"], ["predictions"], axis=-1))
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *size])]
    outputs = [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [batch, 5])]
    return serialized(nodes, inputs, outputs, constants)


def serialized(nodes, inputs, outputs, constants=(), metadata=None) -> bytes:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def answers(values: dict[str, np.ndarray], *, size=(64, 64), batch=1) -> bytes:
    """A network that answers with ``values`` (no batch axis) times the image's mean: any task's heads at no cost."""
    constants = [numpy_helper.from_array(np.array([1, 2, 3], "int64"), "axes")]
    nodes = [helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=1)]
    outputs = []
    for name, value in values.items():
        constants.append(numpy_helper.from_array(value[None].astype("float32"), f"{name}_values"))
        shape = numpy_helper.from_array(np.array([-1] + [1] * value.ndim, "int64"), f"{name}_shape")
        constants.append(shape)
        nodes.append(helper.make_node("Reshape", ["mean", f"{name}_shape"], [f"{name}_mean"]))
        nodes.append(helper.make_node("Mul", [f"{name}_values", f"{name}_mean"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *value.shape]))
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *size, 3])]
    return serialized(nodes, inputs, outputs, constants)
