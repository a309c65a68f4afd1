"""Operators in the form that engines know them in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from resnet_backbones.export.onnx.kernels import Kernel, shapes_of
from resnet_backbones.export.onnx.nodes import Graph, Node


def name_hard_sigmoids(graph: Graph) -> None:
    """Makes one HardSigmoid of ``clip(a x + b) c``, however a Keras writes it."""
    _name_clips(graph)
    for node in graph.of_kind("Clip"):
        bounds = [graph.constants.get(name) for name in node.inputs[1:3]]
        if len(bounds) < 2 or any(bound is None for bound in bounds):
            continue
        source, slope, offset = _line_before(graph, node.inputs[0])
        after = graph.only_consumer(node.output)
        factor = None if after is None else _number(graph, after, node.output, "Mul", "Div")
        last, factor = (after, factor) if factor is not None else (node, 1.0)
        low, high = (float(bound) * factor for bound in bounds)  # type: ignore[arg-type]
        if source == node.inputs[0] or abs(low) > 1e-6 or abs(high - 1.0) > 1e-6:
            continue
        line = {"alpha": float(slope * factor), "beta": float(offset * factor)}
        graph.remove(last)  # type: ignore[arg-type]
        graph.nodes.append(Node("HardSigmoid", [source], [last.output], line, last.output))  # type: ignore[union-attr]
    graph.remove_unused()


def _name_clips(graph: Graph) -> None:
    """Makes one Clip of a minimum and a maximum with numbers."""
    for node in graph.of_kind("Min", "Max"):
        after = graph.only_consumer(node.output)
        if after is None or {node.kind, after.kind} != {"Min", "Max"}:
            continue
        source = next((name for name in node.inputs if name not in graph.constants), None)
        bounds = {
            part.kind: [graph.constants.get(name) for name in part.inputs if name not in (source, node.output)]
            for part in (node, after)
        }
        numbers = [value[0] for value in bounds.values() if len(value) == 1 and value[0] is not None]
        if source is None or len(numbers) < 2 or any(number.size != 1 for number in numbers):
            continue
        low, high = (graph.constant(bounds[kind][0].reshape(()), f"{node.name}_{kind}") for kind in ("Max", "Min"))  # type: ignore[union-attr]
        if graph.constants[low] > graph.constants[high]:
            continue
        node.kind, node.inputs = "Clip", [source, low, high]
        graph.redirect(after.output, node.output)
        graph.remove(after)


def _line_before(graph: Graph, name: str) -> tuple[str, float, float]:
    """The tensor x and the numbers a and b of ``name = a x + b``."""
    slope, offset = 1.0, 0.0
    node = graph.producer(name)
    if node is not None and graph.only_consumer(name) is not None:
        for source in node.inputs:
            value = _number(graph, node, source, "Add")
            if value is not None:
                name, offset = source, value
                node = graph.producer(name) if graph.only_consumer(name) is not None else None
                break
    if node is not None:
        for source in node.inputs:
            value = _number(graph, node, source, "Mul", "Div")
            if value is not None:
                return source, value, offset
    return name, slope, offset


def _number(graph: Graph, node: Node, source: str, *kinds: str) -> float | None:
    """The one number that a node adds to, or multiplies, a tensor with; ``None`` if it does anything else."""
    if node.kind not in kinds or source in graph.constants or source not in node.inputs or len(node.inputs) != 2:
        return None
    at = node.inputs.index(source)
    other = graph.constants.get(node.inputs[1 - at])
    if other is None or other.size != 1 or (node.kind == "Div" and at == 1):
        return None
    value = float(other.reshape(()))
    return 1.0 / value if node.kind == "Div" else value


def matrix_products_as_gemm(graph: Graph, kernels: dict[str, Kernel]) -> None:
    """Makes one Gemm of a matrix product and the bias behind it, with the kernel's output channels first."""
    shapes = graph.shapes(shapes_of(kernels))
    for node in graph.of_kind("MatMul"):
        rank = len(shapes.get(node.inputs[0], ()))
        name = node.inputs[1]
        if rank != 2 or (name not in kernels and graph.constants.get(name, np.zeros(0)).ndim != 2):
            continue
        turned = graph.new_name(f"{name}_turned")
        if name in kernels:
            kernels[turned] = replace(kernels[name], integers=kernels[name].integers.T, axis=0)
        else:
            graph.constants[turned] = graph.constants[name].T
        node.kind, node.inputs, node.attributes = "Gemm", [node.inputs[0], turned], {"transB": 1}
