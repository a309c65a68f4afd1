"""What is in a finished file, as each format tells it: its operators, its kernels, and tensors in its middle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_INTEGERS = ("int8", "int16", "uint8")

#: Images -> name of a tensor -> its values, and the size of an integer's step.
Intermediates = Callable[[np.ndarray], dict[str, tuple[np.ndarray, float | None]]]


@dataclass(frozen=True)
class Operator:
    """One operator of the file.

    Attributes:
        kind: its name in the format.
        dtype: the type it computes in.
        output: name of its first output tensor.
        macs: multiply-accumulates of one image.
        inputs: names of its input tensors.
        others: names of its further outputs.
    """

    kind: str
    dtype: str
    output: str
    macs: int
    inputs: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass
class Census:
    """Counts over a file.

    Attributes:
        operators: every operator, in order.
        opaque: operators whose work is not known: loops, and those that are not of the format itself.
        rounded: what only says that a tensor is rounded, a Q or a DQ, and is no operator: its result -> what it reads.
    """

    operators: list[Operator] = field(default_factory=list)
    opaque: list[Operator] = field(default_factory=list)
    rounded: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[tuple[str, str], int]:
        """(kind, type) -> how many."""
        return dict(Counter((op.kind, op.dtype) for op in self.operators))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image in convolutions and matrix multiplications."""
        return sum(op.macs for op in self.operators)

    @property
    def int8_share(self) -> float:
        """Share of the multiply-accumulates that is computed in int8 (or int16, where so quantized), 0 to 1."""
        return sum(op.macs for op in self.operators if op.dtype in _INTEGERS) / self.macs if self.macs else 0.0

    def not_int8(self) -> list[Operator]:
        """Operators that compute in anything but int8 and int16 (those on shapes, in int32, aside)."""
        return [op for op in self.operators if op.dtype not in (*_INTEGERS, "int32")]


@dataclass(frozen=True)
class FileKernel:
    """A kernel as a file holds it.

    Attributes:
        output: name of the tensor its operator computes.
        values: the integers, in Keras' layout.
        scales: one, or one a channel of the result.
        depthwise: whether the operator is a depthwise convolution.
        bits: of the integers.
        mended: whether a batch norm folded into it was changed to what LiteRT's converter can quantize.
        coarser: one a channel of the result, whether it has larger steps than the model's, since its bias would not fit
            32 bits in those: a batch norm has all but switched it off. ``None``: none has.
        layer: the layer that has it, where that is known otherwise than by ``output``.
    """

    output: str
    values: np.ndarray
    scales: np.ndarray
    depthwise: bool = False
    bits: int = 8
    mended: bool = False
    coarser: np.ndarray | None = None
    layer: Any = None
