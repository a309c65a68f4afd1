"""What is inside a finished LiteRT file: its kernels, its intermediate tensors, and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from resnet_backbones.export.contents import FileKernel
from resnet_backbones.export.litert.flatbuffer import kind_of, read_model
from resnet_backbones.runtime.engines.base import dequantize, quantize
from resnet_backbones.runtime.engines.litert import model_at
from resnet_backbones.runtime.files.metadata import read_metadata

_OPERATOR = schema.BuiltinOperator
# Operator -> which input is the kernel, and the order of its axes in Keras' layout.
_KERNELS = {
    _OPERATOR.CONV_2D: (1, (1, 2, 3, 0)),
    _OPERATOR.DEPTHWISE_CONV_2D: (1, None),
    _OPERATOR.TRANSPOSE_CONV: (1, (1, 2, 0, 3)),
    _OPERATOR.FULLY_CONNECTED: (1, (1, 0)),
}


def file_kernels(data: bytes) -> Iterator[FileKernel]:
    """Every integer kernel of a file.

    Args:
        data: the file's bytes.
    """
    model = read_model(data)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if kind_of(model, operator) not in _KERNELS:
            continue
        position, order = _KERNELS[kind_of(model, operator)]
        tensor, output = graph.tensors[operator.inputs[position]], graph.tensors[operator.outputs[0]]
        content = model.buffers[tensor.buffer].data
        if content is None or tensor.quantization is None or tensor.quantization.scale is None:
            continue
        values = integers_of(tensor, bytes(content))
        if order is None:  # 1, height, width, channels * multiplier
            channels = graph.tensors[operator.inputs[0]].shape[3]
            values = values.reshape(*values.shape[1:3], channels, -1)
        else:
            values = values.transpose(order)
        bits = 4 if tensor.type == schema.TensorType.INT4 else 8
        scales = np.asarray(tensor.quantization.scale)
        yield FileKernel(output.name.decode(), values, scales, order is None, bits, mended=True)


def integers_of(tensor: Any, content: bytes) -> np.ndarray:
    """The integers of a kernel of 8 or 4 bits, in the file's layout, from the bytes of its buffer."""
    values = np.frombuffer(content, np.int8)
    if tensor.type == schema.TensorType.INT4:  # two a byte, the lower half first
        values = np.stack([(values << 4) >> 4, values >> 4], axis=-1).reshape(-1)[: int(np.prod(tensor.shape))]
    return values.reshape(tensor.shape).astype(np.int32)


def with_integers(tensor: Any, integers: np.ndarray) -> bytes:
    """The bytes of a kernel's buffer for such integers: what :func:`integers_of` reads."""
    values = integers.reshape(-1).astype(np.int8)
    if tensor.type == schema.TensorType.INT4:
        values = np.pad(values, (0, values.size % 2))
        values = (values[0::2] & 15) | (values[1::2] << 4)
    return values.tobytes()


def computed_tensors(data: bytes) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each tensor a file's operators compute, in order."""
    model = read_model(data)
    graph = model.subgraphs[0]
    tensors = [graph.tensors[index] for operator in graph.operators for index in operator.outputs]
    return [(tensor.name.decode(), tuple(int(size) for size in tensor.shape)) for tensor in tensors]


def intermediates(
    path: Path, names: Iterable[str]
) -> Callable[[np.ndarray], dict[str, tuple[np.ndarray, float | None]]]:
    """A file as a function of images that gives tensors in its middle.

    LiteRT's own kernels run, without XNNPACK, which keeps no such tensors.

    Args:
        path: the file.
        names: of the tensors.

    Returns:
        A function of images as the Keras model takes them, of the file's size; it returns name -> values, float32, and
        the size of one step of an integer tensor.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        **model_at(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    wanted = set(names)
    details = [detail for detail in interpreter.get_tensor_details() if detail["name"] in wanted]
    facts = (read_metadata(path) or {}).get("input", {})
    scale, offset = (np.asarray(facts.get(key, usual), np.float32) for key, usual in (("scale", 1.0), ("offset", 0.0)))

    def run(images: np.ndarray) -> dict[str, tuple[np.ndarray, float | None]]:
        found: dict[str, list[np.ndarray]] = {detail["name"]: [] for detail in details}
        size = int(entry["shape"][0])
        for start in range(0, len(images), size):
            chunk = images[start : start + size]
            batch = np.zeros(entry["shape"], np.float32)
            batch[: len(chunk)] = chunk
            interpreter.set_tensor(entry["index"], quantize(batch * scale + offset, entry))
            interpreter.invoke()
            for detail in details:
                value = dequantize(interpreter.get_tensor(detail["index"]), detail)
                found[detail["name"]].append(value[: len(chunk)])
        steps = {detail["name"]: detail["quantization"][0] or None for detail in details}
        return {name: (np.concatenate(values), steps[name]) for name, values in found.items()}

    return run


def timer(path: Path, threads: int) -> Callable[[], None]:
    """A file as a function of nothing that runs it once on noise, for timing.

    Args:
        path: the file.
        threads: how many to use.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(**model_at(path), num_threads=threads)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    most = 100 if len(entry["shape"]) == 4 else 0  # what is no image may be indices
    noise = np.random.default_rng(0).uniform(0, most, entry["shape"])
    interpreter.set_tensor(entry["index"], noise.astype(entry["dtype"]))
    return interpreter.invoke
