"""Arrays of which only shape and type are known until they are wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in a file, or a calculation on such arrays; its values are read when numpy asks for them.

    Args:
        shape: its shape.
        dtype: the name of its type: ``"float32"``, ``"bfloat16"``, ``"int64"`` ...
        read: returns its values, in that type.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str, read: Callable[[], np.ndarray]) -> None:
        self.shape, self.dtype, self.read = tuple(int(size) for size in shape), dtype, read

    @classmethod
    def of(cls, value: Any) -> Array:
        """``value``, anything like an array: of numpy, torch, Keras."""
        if isinstance(value, Array):
            return value
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            value = np.asarray(value)
        dtype = getattr(value.dtype, "name", None) or str(value.dtype).removeprefix("torch.")
        if hasattr(value, "detach"):  # a torch tensor: numpy knows no bfloat16
            floats = dtype.startswith(_FLOATS)
            return cls(value.shape, dtype, lambda: (value.float() if floats else value).detach().cpu().numpy())
        return cls(value.shape, dtype, lambda: np.asarray(value))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers, of whatever precision."""
        return self.dtype.startswith(_FLOATS)

    def values(self) -> np.ndarray:
        """The values; floats of whatever precision become float32."""
        found = np.asarray(self.read())
        if found.shape != self.shape:
            raise ValueError(f"its header says {self.shape}, its values have {found.shape}")
        if not self.is_float:
            return found
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
            return found.astype(np.float32, copy=False)

    def swapaxes(self, first: int, second: int) -> Array:
        """As numpy's."""
        shape = list(self.shape)
        shape[first], shape[second] = shape[second], shape[first]
        return Array(tuple(shape), self.dtype, lambda: self.values().swapaxes(first, second))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.values(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        if method != "__call__" or settings or ufunc.nout != 1 or ufunc.signature:
            return getattr(ufunc, method)(*map(np.asarray, inputs), **settings)
        shape = np.broadcast_shapes(*map(np.shape, inputs))
        return Array(shape, self.dtype, lambda: ufunc(*map(np.asarray, inputs)))

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.values()[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        return getattr(self.values(), name)  # what else an array can do, for functions that prepare arrays


_FLOATS = ("float", "bfloat", "double", "half")
