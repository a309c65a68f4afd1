"""Outputs that only join parts, as RetinaNet's levels are: an int8 file returns the parts, each with its own scale.

How the model joins them is found out by letting it join numbers: each part's values are replaced by their places in a
list of all parts, and what the model returns then says where everything came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class OutputParts:
    """Collects the parts while a model is traced whose joining layers are replaced by :meth:`replacement`."""

    def __init__(self) -> None:
        self._parts: list[tf.Tensor] = []
        self._starts = [0]

    def replacement(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        """The joining layer's call, given numbers in place of what it joins."""
        del layer

        def numbered(*args, **kwargs):
            args, kwargs = tf.nest.map_structure(self._number, (args, kwargs))
            return call(*args, **kwargs)

        return numbered

    def _number(self, value: Any) -> Any:
        if not (tf.is_tensor(value) and value.dtype.is_floating):
            return value  # an axis, or numbers already
        shape = [1, *value.shape[1:]]
        start, end = self._starts[-1], self._starts[-1] + int(np.prod(shape))
        self._parts.append(value)
        self._starts.append(end)
        return tf.reshape(tf.range(start, end), shape)

    def of(self, output: tf.Tensor) -> list[tf.Tensor] | None:
        """The parts of an output, to be joined along axis 1.

        Args:
            output: what the traced model returned.

        Returns:
            Tensors of the output's shape but for axis 1, in order; ``None`` for an output that joins none.

        Raises:
            ValueError: the parts are joined otherwise than one after another along axis 1.
        """
        numbers = _evaluated(output) if output.dtype == tf.int32 else None
        if numbers is None:
            return None
        found, row = [], 0
        while row < numbers.shape[1]:
            part = int(np.searchsorted(self._starts, numbers[0, row].flat[0], side="right")) - 1
            start, end = self._starts[part], self._starts[part + 1]
            rows = (end - start) // numbers[0, 0].size
            taken = numbers[:, row : row + rows]
            if rows == 0 or not np.array_equal(taken.reshape(-1), np.arange(start, end)):
                raise ValueError(
                    f"Output {output.name!r} mixes the values of its parts; it can be exported in int8 only if they "
                    "stand one after another along axis 1. Export it in a float precision, or return the parts."
                )
            shape = [-1 if self._parts[part].shape[0] is None else self._parts[part].shape[0], *taken.shape[1:]]
            found.append(tf.reshape(self._parts[part], shape))
            row += rows
        return found


def _evaluated(tensor: tf.Tensor) -> np.ndarray | None:
    """The value of a tensor of a graph that depends on constants alone; ``None`` if it depends on an input."""
    nodes: dict[str, Any] = {}
    pending: Sequence[tf.Operation] = [tensor.op]
    while pending:
        operation, *pending = pending
        if operation.type == "Placeholder":
            return None
        if operation.name not in nodes:
            nodes[operation.name] = operation.node_def
            pending = [*pending, *(source.op for source in operation.inputs)]
    with tf.Graph().as_default() as graph:
        (imported,) = tf.import_graph_def(
            tf.compat.v1.GraphDef(node=list(nodes.values())), return_elements=[tensor.name], name=""
        )
        with tf.compat.v1.Session(graph=graph) as session:
            return session.run(imported)
