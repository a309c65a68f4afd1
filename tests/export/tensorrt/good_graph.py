"""A small residual network with Q/DQ where TensorRT wants them, and the tools to break it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SCALE = 0.05


class Builder:
    """Writes a graph a layer at a time. Tensors are called what their node is called."""

    def __init__(self, seed: int = 0):
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {"zero": np.int8(0)}

    def node(self, op: str, name: str, *inputs: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def pair(self, tensor: str, scale: float = SCALE) -> str:
        step = self.constant(f"{tensor}/scale", np.float32(scale))
        self.node("QuantizeLinear", f"{tensor}/q", tensor, step, "zero")
        return self.node("DequantizeLinear", f"{tensor}/dq", f"{tensor}/q", step, "zero")

    def kernel(self, name: str, shape: tuple[int, ...], axis: int = 0) -> str:
        value = self.constant(f"{name}/kernel", self.random.integers(-127, 128, shape).astype(np.int8))
        scales = self.constant(f"{name}/kernel/scale", self.random.uniform(0.001, 0.003, shape[axis]).astype("f4"))
        zeros = self.constant(f"{name}/kernel/zero", np.zeros(shape[axis], np.int8))
        return self.node("DequantizeLinear", f"{name}/kernel/dq", value, scales, zeros, axis=axis)

    def conv(self, name: str, tensor: str, filters: tuple[int, int], size: int = 3, stride: int = 1) -> str:
        kernel = self.kernel(name, (filters[1], filters[0], size, size))
        bias = self.constant(f"{name}/bias", self.random.normal(0, 0.1, filters[1]).astype("f4"))
        return self.node("Conv", name, tensor, kernel, bias, strides=[stride] * 2, pads=[size // 2] * 4)

    def model(self, inputs: list, outputs: list) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "good", inputs, outputs, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def good_model() -> onnx.ModelProto:
    """Stem, max pooling, a block with identity and one with projection shortcut, global pooling, a float head."""
    b = Builder()
    x = b.node("Relu", "stem/relu", b.conv("stem", b.pair("image"), (3, 8), stride=2))
    x = b.node("MaxPool", "pool", b.pair(x), kernel_shape=[2, 2], strides=[2, 2])
    x = b.pair(x)
    y = b.pair(b.node("Relu", "one/relu1", b.conv("one/conv1", x, (8, 8))))
    x = b.node("Relu", "one/relu2", b.node("Add", "one/add", b.conv("one/conv2", y, (8, 8)), x))
    x = b.pair(x)
    y = b.pair(b.node("Relu", "two/relu1", b.conv("two/conv1", x, (8, 16), stride=2)))
    shortcut = b.pair(b.conv("two/projection", x, (8, 16), size=1, stride=2))
    x = b.node("Relu", "two/relu2", b.node("Add", "two/add", b.conv("two/conv2", y, (16, 16)), shortcut))
    x = b.node("Flatten", "flat", b.node("GlobalAveragePool", "mean", b.pair(x)))
    weights = b.constant("head/weights", b.random.normal(0, 0.1, (5, 16)).astype("f4"))
    b.node("Gemm", "head", x, weights, b.constant("head/bias", np.zeros(5, np.float32)), transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])
    return b.model([image], [helper.make_tensor_value_info("head", TensorProto.FLOAT, ["batch", 5])])


# --- tools to change a model, in place ---------------------------------------------------------------------------


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(one for one in model.graph.node if one.name == name)


def set_constant(model: onnx.ModelProto, name: str, value) -> str:
    tensor = numpy_helper.from_array(np.asarray(value), name)
    for one in model.graph.initializer:
        if one.name == name:
            one.CopyFrom(tensor)
            return name
    model.graph.initializer.append(tensor)
    return name


def constant(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(one for one in model.graph.initializer if one.name == name))


def set_attribute(model: onnx.ModelProto, name: str, attribute: str, value) -> None:
    target = node(model, name)
    kept = [one for one in target.attribute if one.name != attribute]
    del target.attribute[:]
    target.attribute.extend([*kept, helper.make_attribute(attribute, value)])


def add_node(model: onnx.ModelProto, before: str, op: str, name: str, *inputs: str, **attributes) -> str:
    """Adds a node in front of another; its output has its name."""
    place = next(i for i, one in enumerate(model.graph.node) if one.name == before)
    made = helper.make_node(op, list(inputs), [name], name=name, **attributes)
    model.graph.node.insert(place, made)
    return name


def read_instead(model: onnx.ModelProto, reader: str, old: str, new: str) -> None:
    """Makes a node read another tensor."""
    target = node(model, reader)
    inputs = [new if one == old else one for one in target.input]
    del target.input[:]
    target.input.extend(inputs)


def put_between(model: onnx.ModelProto, tensor: str, reader: str, op: str, name: str, *more: str, **attributes) -> str:
    """Puts an operator between a tensor and one of its readers."""
    add_node(model, reader, op, name, tensor, *more, **attributes)
    read_instead(model, reader, tensor, name)
    return name


def put_pair(model: onnx.ModelProto, tensor: str, reader: str, name: str, scale: float = SCALE) -> str:
    """Puts Q/DQ between a tensor and one of its readers."""
    step = set_constant(model, f"{name}/scale", np.float32(scale))
    put_between(model, tensor, reader, "QuantizeLinear", f"{name}/q", step, "zero")
    return put_between(model, f"{name}/q", reader, "DequantizeLinear", f"{name}/dq", step, "zero")


def remove(model: onnx.ModelProto, *names: str) -> None:
    """Takes nodes out of the graph; what read their output reads their first input."""
    for name in names:
        gone = node(model, name)
        for other in model.graph.node:
            if gone.output[0] in other.input:
                read_instead(model, other.name, gone.output[0], gone.input[0])
        model.graph.node.remove(gone)


def remove_pair(model: onnx.ModelProto, tensor: str) -> None:
    """Takes Q/DQ off a tensor."""
    remove(model, f"{tensor}/dq", f"{tensor}/q")
