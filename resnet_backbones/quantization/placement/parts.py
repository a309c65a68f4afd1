"""Outputs that only join parts, as RetinaNet's levels are: an int8 file returns the parts, each with its own scale.

How the model joins them is found out by letting it join numbers: each part's values are replaced by their places in a
list of all parts, and what the model returns then says where everything came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class JoinedParts:
    """Tensors, and what is joined of tensors itself, to be joined along an axis."""

    parts: list[Any]
    axis: int

    def tensors(self) -> list[tf.Tensor]:
        """The tensors, in order."""
        return [one for part in self.parts for one in (part.tensors() if isinstance(part, JoinedParts) else [part])]

    def described(self, names: Iterator[str]) -> dict[str, Any]:
        """How the runtime's metadata says it, the tensors having these names."""
        parts = [part.described(names) if isinstance(part, JoinedParts) else next(names) for part in self.parts]
        return {"parts": parts, "axis": self.axis}


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

    def of(self, output: tf.Tensor) -> JoinedParts | None:
        """The parts of an output, and along which axes they are joined.

        Args:
            output: what the traced model returned.

        Returns:
            Of each part the tensor, in the shape it has within the output; ``None`` for an output that joins none.

        Raises:
            ValueError: the values of the parts do not stand side by side along axes.
        """
        numbers = _evaluated(output) if self._parts else None
        if numbers is None:
            return None
        found = self._split(numbers) if output.dtype == tf.int32 else None  # else something computed with them
        if found is None:
            raise ValueError(
                f"Output {output.name!r} mixes the values of its parts; it can be exported in int8 only if they stand "
                "one after another along an axis. Export it in a float precision, or return the parts."
            )
        return found if isinstance(found, JoinedParts) else JoinedParts([found], 1)

    def _split(self, numbers: np.ndarray) -> Any:
        """A block of an output: the one part it is, or what it joins; ``None`` if its parts are mixed."""
        owners = np.searchsorted(self._starts, numbers, side="right") - 1
        present = np.unique(owners)
        if len(present) == 1:
            part = self._parts[present[0]]
            start, end = self._starts[present[0]], self._starts[present[0] + 1]
            if numbers.size != end - start or not np.array_equal(numbers.reshape(-1), np.arange(start, end)):
                return None
            return tf.reshape(part, [-1 if part.shape[0] is None else part.shape[0], *numbers.shape[1:]])
        for axis in range(1, numbers.ndim):
            others = tuple(one for one in range(numbers.ndim) if one != axis)
            whole = np.ones(numbers.shape[axis] - 1, bool)  # between which rows no part lies on both sides
            for part in present:
                rows = np.flatnonzero(np.any(owners == part, axis=others))
                whole[rows[0] : rows[-1]] = False
            if np.any(whole):
                blocks = [self._split(block) for block in np.split(numbers, np.flatnonzero(whole) + 1, axis)]
                return None if any(block is None for block in blocks) else JoinedParts(blocks, axis)
        return None


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
