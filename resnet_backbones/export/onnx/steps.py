"""The size of an int8 step of every value a file returns."""

from __future__ import annotations

import numpy as np

from resnet_backbones.export.onnx.nodes import Graph


def output_steps(graph: Graph) -> dict[str, np.ndarray]:
    """Steps of the outputs that are made of rounded tensors alone.

    Args:
        graph: as written to the file.

    Returns:
        Output name -> array of the output's shape for one image; outputs that hold anything else are left out.
    """
    shapes = graph.shapes()
    found = {name: _steps(graph, shapes, name) for name in graph.output_names}
    return {name: steps for name, steps in found.items() if steps is not None}


def _steps(graph: Graph, shapes: dict[str, list[int | None]], name: str) -> np.ndarray | None:
    node, shape = graph.producer(name), shapes.get(name)
    if node is None or shape is None or None in shape[1:]:
        return None
    sizes = (1, *shape[1:])
    if node.kind == "DequantizeLinear":
        return np.full(sizes, graph.constants[node.inputs[1]], np.float32)
    if node.kind == "Concat" and node.attributes["axis"] != 0:
        parts = [_steps(graph, shapes, part) for part in node.inputs]
        return None if any(part is None for part in parts) else np.concatenate(parts, node.attributes["axis"])
    if node.kind not in ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"):
        return None
    steps = _steps(graph, shapes, node.inputs[0])
    if steps is None or node.kind == "Transpose":
        return None if steps is None else steps.transpose(node.attributes["perm"])
    return steps.reshape(sizes) if steps.size == np.prod(sizes) else None
