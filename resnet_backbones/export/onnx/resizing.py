"""Resizing in ONNX files: to the size that TensorFlow resizes to, and nearest to its pixels.

tf2onnx states a scale in float32 for each axis, and engines round sizes down: 18 pixels times 11/18 are 10. At a middle
between two pixels the nearest also depends on the scale's last place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tf2onnx

_ONE, _HALF = np.float32(1), np.float32(0.5)
_PLACES = (0, 1, -1, 2, -2)  # of the last ones of a scale, as tried: the least change first


def resize_as_tensorflow(graph: Any) -> None:
    """Corrects the scales of a graph's resizing; where none is right, picks the nearest pixels by their places.

    Args:
        graph: as tf2onnx makes it, before its optimizers.
    """
    for node in [one for one in graph.get_nodes() if one.type == "Resize" and len(one.input) == 3]:
        given, to = graph.get_shape(node.input[0]), _sizes_behind(graph, node)
        if given is None or to is None or min(*given[2:], *to) < 1:
            continue
        by_places = node.get_attr_value("coordinate_transformation_mode") == b"tf_half_pixel_for_nn"
        scales = [_scale(*sizes, by_places) for sizes in zip(given[2:], to, strict=True)]
        if None in scales:
            _pick(graph, node, [nearest(*sizes) for sizes in zip(given[2:], to, strict=True)])
        elif not np.array_equal(scales, node.inputs[2].get_tensor_value(as_list=False)[2:]):
            values = np.asarray([_ONE, _ONE, *scales], np.float32)
            graph.replace_input(node, node.input[2], _constant(graph, node, "scales", values), 2)
            graph.set_shape(node.output[0], [*given[:2], *to])


def nearest(given: int, to: int) -> np.ndarray:
    """The pixel that TensorFlow takes for each of a resized row, with half-pixel centres.

    Args:
        given: pixels of the row.
        to: pixels of the resized one.
    """
    scale = np.float32(given) / np.float32(to)
    return np.minimum(np.floor((np.arange(to, dtype=np.float32) + _HALF) * scale), given - 1).astype(np.int64)


def _scale(given: int, to: int, by_places: bool) -> np.float32 | None:
    """The scale next to ``to / given`` by which an engine finds that size and, if asked for, the nearest pixels."""
    exact = np.float32(to / given)
    for places in _PLACES:
        scale = exact
        for _ in range(abs(places)):
            scale = np.nextafter(scale, np.float32(np.inf if places > 0 else 0))
        if {int(np.float32(given) * scale), int(given * float(scale))} != {to}:  # the engine's, and the checker's
            continue
        found = np.clip(np.floor((np.arange(to, dtype=np.float32) + _HALF) / scale), 0, given - 1)
        if not by_places or np.array_equal(found, nearest(given, to)):
            return scale
    return None


def _sizes_behind(graph: Any, node: Any) -> list[int] | None:
    """Height and width that TensorFlow's operation has; the operator itself is transposed and has no shape."""
    behind = graph.find_output_consumers(node.output[0])
    shape = graph.get_shape(behind[0].output[0]) if behind and behind[0].type == "Transpose" else None
    return None if shape is None else shape[1:3]


def _pick(graph: Any, node: Any, pixels: list[np.ndarray]) -> None:
    """The pixels of rows, then of columns, in place of a resizing."""
    source, output, name = node.input[0], node.output[0], node.name
    dtype, shape = graph.get_dtype(source), graph.get_shape(source)
    rows, columns = (
        _constant(graph, node, what, places) for what, places in zip(("rows", "columns"), pixels, strict=True)
    )
    graph.remove_node(name)
    shapes = [[*shape[:2], len(pixels[0]), shape[3]], [*shape[:2], *map(len, pixels)]]
    facts = [{"dtypes": [dtype], "shapes": [one]} for one in shapes]
    of_rows = graph.make_node("Gather", [source, rows], attr={"axis": 2}, name=f"{name}_rows", **facts[0])
    graph.make_node("Gather", [of_rows.output[0], columns], attr={"axis": 3}, outputs=[output], name=name, **facts[1])


def _constant(graph: Any, node: Any, what: str, values: np.ndarray) -> str:
    return graph.make_const(tf2onnx.utils.make_name(f"{node.name}_{what}"), values).output[0]
