"""What a file computes in its middle, as Keras has it: images with the channels last."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from resnet_backbones.export.contents import Intermediates
from resnet_backbones.export.onnx.nodes import Graph, Node
from resnet_backbones.runtime.feeding import Feed
from resnet_backbones.runtime.files.metadata import read_metadata

_TO_FIRST, _TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
# Operators whose images have the channels first by definition.
_OF_IMAGES = ("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool",
    "GlobalMaxPool", "MaxPool", "SpaceToDepth")  # fmt: skip
_RESHAPED = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def computed_tensors(graph: Graph, layout: str) -> list[tuple[str, tuple[int | None, ...]]]:
    """Name and shape, in Keras' layout, of each tensor the nodes compute, in order.

    Args:
        graph: as written to the file.
        layout: of the image input, ``"NHWC"`` or ``"NCHW"``.
    """
    shapes = graph.shapes()
    first = _channels_first(graph, shapes, layout)
    found = []
    for node in graph.in_order():
        for name in node.outputs:
            sizes = shapes.get(name)
            if sizes is not None:
                found.append((name, tuple(sizes[axis] for axis in _TO_LAST) if name in first else tuple(sizes)))
    return found


def names_of_moved(graph: Graph) -> dict[str, str]:
    """Tensors that hold the values of another, moved by tf2onnx, whose name theirs begins with -> the other."""
    found: dict[str, str] = {}
    for node in graph.in_order():
        if node.kind in ("Identity", "Transpose", *_RESHAPED) and node.output.startswith(f"{node.inputs[0]}_"):
            found[node.output] = found.get(node.inputs[0], node.inputs[0])
    return found


def intermediates(path: Path, names: Iterable[str]) -> Intermediates:
    """A file as a function of images that gives tensors in its middle.

    ONNX Runtime runs it as it is written, with nothing optimised: every operator between Q and DQ in float.

    Args:
        path: the file.
        names: of the tensors.

    Returns:
        A function of images as the Keras model takes them; it returns name -> values, float32, in Keras' layout, and
        the size of one step of what comes of a DequantizeLinear.
    """
    facts = (read_metadata(path) or {}).get("input", {})
    graph, wanted = Graph(onnx.load(str(path))), list(names)
    first = _channels_first(graph, graph.shapes(), facts.get("layout", "NHWC"))
    steps = {name: _step(graph, name) for name in wanted}
    graph.outputs += [onnx.ValueInfoProto(name=name) for name in wanted if name not in graph.output_names]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        graph.to_model().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (entry,) = session.get_inputs()
    feed = Feed(tuple(size if isinstance(size, int) else None for size in entry.shape), facts, str(path))

    def as_keras(name: str, value: np.ndarray) -> np.ndarray:
        return (value.transpose(_TO_LAST) if name in first else value).astype(np.float32)

    def run(images: np.ndarray) -> dict[str, tuple[np.ndarray, float | None]]:
        found: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
        size = feed.batch_size(len(images))
        for start in range(0, len(images), size):
            chunk = images[start : start + size]
            batch = feed.empty(len(chunk))
            batch[: len(chunk)] = chunk
            values = session.run(wanted, {entry.name: feed.to_graph(batch).astype(np.float32)})
            for name, value in zip(wanted, values, strict=True):
                found[name].append(as_keras(name, value)[: len(chunk)])
        return {name: (np.concatenate(values), steps[name]) for name, values in found.items()}

    return run


def _channels_first(graph: Graph, shapes: dict[str, list[int | None]], layout: str) -> set[str]:
    """The tensors of images whose channels are the second axis."""
    first = {graph.inputs[0].name} if layout == "NCHW" else set()
    for node in graph.in_order():
        if _gives_channels_first(node, first):
            first.update(name for name in node.outputs if len(shapes.get(name, ())) == 4)
    return first - set(graph.output_names)  # the file returns what Keras does, also what a model itself permutes


def _gives_channels_first(node: Node, first: set[str]) -> bool:
    if node.kind in _OF_IMAGES:
        return True
    if node.kind == "Transpose":
        return node.attributes["perm"] == _TO_FIRST
    return node.kind not in _RESHAPED and any(name in first for name in node.inputs)


def _step(graph: Graph, name: str) -> float | None:
    """The size of one step of a tensor that a DequantizeLinear makes."""
    node = graph.producer(name)
    if node is None or node.kind != "DequantizeLinear":
        return None
    return float(graph.constants[node.inputs[1]].reshape(()))
