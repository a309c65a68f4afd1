"""Where a tensor of a traced function has its values from, and whether they are rounded to a range."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# Operations that choose among the values they read, or weigh them, whose range LiteRT gives their result.
_CHOOSES = frozenset({"Max", "Min", "ResizeNearestNeighbor", "ResizeBilinear"})
_POOLS = frozenset({"MaxPool", "AvgPool"})
# Operations that leave the range of a tensor to what they read.
_MOVES = frozenset(
    {
        "Identity",
        "Cast",
        "Reshape",
        "Transpose",
        "StridedSlice",
        "Tile",
        "ExpandDims",
        "Squeeze",
        "Pad",
        "Split",
        "SplitV",
    }
)


def holds_range(values: Any) -> bool:
    """Whether a tensor has a range: its own, or that of values it moves or chooses among.

    Args:
        values: a tensor; one that was computed before the trace has none.
    """
    return tf.is_symbolic_tensor(values) and chosen_from(values, pooled=True).type.startswith("FakeQuant")


def chosen_from(values: Any, *, pooled: bool) -> Any:
    """The operation that computes the values of a tensor, which others only move or choose among.

    Args:
        values: a tensor of a traced function.
        pooled: whether pooling chooses, too: it keeps the range, but bits may change after it.
    """
    source = source_of(values)
    while source.type in (_CHOOSES | _POOLS if pooled else _CHOOSES):
        source = source_of(source.inputs[0])
    return source


def source_of(values: Any) -> Any:
    """The operation that computes the values of a tensor, which others only move."""
    return _moved_by(values)[-1]


def moves_before(values: Any) -> list[str]:
    """The types of the operations that only move the values of a tensor, last first."""
    return [operation.type for operation in _moved_by(values)[:-1]]


def _moved_by(values: Any) -> list[Any]:
    """The operations that move the values of a tensor, last first, and the one that computes them."""
    operations = [values.op]
    while operations[-1].type in _MOVES:
        operations.append(operations[-1].inputs[1 if operations[-1].type == "Split" else 0].op)
    return operations
