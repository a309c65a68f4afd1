"""What is quantized in a model, and how: every range, every kernel, and what stays in float with the reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from resnet_backbones._util.text import as_text, table
from resnet_backbones.quantization.float_layers import float_layers
from resnet_backbones.quantization.hooks import freezes_of, hooks_of
from resnet_backbones.quantization.kernel_quantizer import KernelQuantizer, read
from resnet_backbones.quantization.placement.selection import layer_labels
from resnet_backbones.quantization.quantizers import ActivationQuantizer


def is_quantized(model: Any) -> bool:
    """Whether any layer of the model is quantized: of a float model that holds a quantized backbone, too.

    Args:
        model: any Keras model.
    """
    return bool(hooks_of(model))


@dataclass(frozen=True)
class RangeRow:
    """One range of an activation.

    Attributes:
        layer: path of the layer it belongs to.
        call: which call of that layer, from 0.
        port: where: ``"output"``, ``"input:0"``, ``"preactivation"``, ``"between:0"``.
        low, high: the range; ``None`` as long as it is unset.
        scale, zero_point: of the integers an export writes; ``None`` as long as the range is unset.
        bits, symmetric: of the integers.
        state: ``"unset"`` (nothing was observed yet), ``"observing"`` (training moves it), ``"frozen"`` or ``"fixed"``.
    """

    layer: str
    call: int
    port: str
    low: float | None
    high: float | None
    scale: float | None
    zero_point: int | None
    bits: int
    symmetric: bool
    state: str


@dataclass(frozen=True)
class KernelRow:
    """One quantized kernel.

    Attributes:
        layer: path of its layer.
        kernel: the attribute that holds it.
        shape: its shape.
        bits: of the integers, always symmetric with a narrow range.
        granularity: ``"tensor"``, or how many channels have a range each, ``"64 channels"``.
        bound: its largest magnitude.
    """

    layer: str
    kernel: str
    shape: tuple[int, ...]
    bits: int
    granularity: str
    bound: float


@dataclass(frozen=True)
class FloatRow:
    """A layer that stays in float, why, and whether that was asked for, by a pattern or by the scheme."""

    layer: str
    reason: str
    chosen: bool


@dataclass(frozen=True)
class QuantizationSummary:
    """What :func:`quantization_summary` found; ``print`` shows it as tables.

    Attributes:
        model: name of the model.
        scheme: name of the scheme.
        ranges, kernels, floats: the rows, in the model's order.
        batch_norms, frozen_batch_norms: how many batch norms a schedule can freeze, and how many are frozen.
    """

    model: str
    scheme: str
    ranges: tuple[RangeRow, ...]
    kernels: tuple[KernelRow, ...]
    floats: tuple[FloatRow, ...]
    batch_norms: int
    frozen_batch_norms: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows as plain values, each with its ``"kind"``: ``"range"``, ``"kernel"`` or ``"float"``."""
        kinds = {"range": self.ranges, "kernel": self.kernels, "float": self.floats}
        return [{"kind": kind, **asdict(row)} for kind, rows in kinds.items() for row in rows]  # type: ignore[call-overload]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        states = [row.state for row in self.ranges]
        counts = ", ".join(f"{states.count(s)} {s}" for s in ("unset", "observing", "frozen", "fixed") if s in states)
        head = (
            f"{self.model}, scheme {self.scheme}: {len(self.ranges)} ranges ({counts or 'none'}), {len(self.kernels)} "
            f"quantized kernels, {len(self.floats)} layers in float; statistics of {self.frozen_batch_norms} of "
            f"{self.batch_norms} batch norms frozen"
        )
        parts: list[Table | str] = [head]
        if self.ranges:
            figures = ("call", "low", "high", "scale", "zero", "bits", "state")
            parts.append(table("Ranges", ("layer", "port"), figures, map(_range_texts, self.ranges)))
        if self.kernels:
            sizes = ("shape", "bits", "one range per", "bound")
            parts.append(table("Kernels", ("layer", "kernel"), sizes, map(_kernel_texts, self.kernels)))
        if self.floats:
            rows = ((row.layer, row.reason) for row in self.floats)
            parts.append(table("In float", ("layer", "reason"), (), rows))
        return as_text(*parts)


def quantization_summary(model: Any) -> QuantizationSummary:
    """Lists every quantizer of a model with its range, bits and state, every quantized kernel, and what stays in float.

    Args:
        model: a quantized model, or a float one that holds a quantized backbone.

    Returns:
        The summary; ``print`` it, or take ``.rows`` or ``.to_dict()``.

    Raises:
        ValueError: nothing in the model is quantized.

    Example:
        >>> print(quantization_summary(detector))
    """
    hooks = hooks_of(model)
    if not hooks:
        raise ValueError(f"{type(model).__name__} {model.name!r} is not quantized: call quantize_aware(model) first.")
    paths = layer_labels(model)
    ranges, kernels = [], []
    for hook in hooks:
        path = paths[id(hook.layer)]
        ranges += [_range_row(path, index, port, q) for (index, port), q in hook.owned_quantizers().items()]
        kernels += [_kernel_row(path, name, *found) for name, found in hook.kernels.items()]
    switches = freezes_of(model)
    frozen = sum(float(read(switch.frozen)) > 0.5 for switch in switches)
    floats = tuple(FloatRow(paths[id(layer)], why.text, why.chosen) for layer, why in float_layers(model).items())
    scheme = hooks[0].scheme.name
    return QuantizationSummary(model.name, scheme, tuple(ranges), tuple(kernels), floats, len(switches), frozen)


def _range_row(path: str, index: int, port: str, quantizer: ActivationQuantizer) -> RangeRow:
    bits, symmetric = quantizer.bits, quantizer.symmetric
    if not quantizer.has_range:
        return RangeRow(path, index, port, None, None, None, None, bits, symmetric, "unset")
    low, high = quantizer.range()
    if symmetric:
        scale, zero_point = max(-low, high) / (2 ** (bits - 1) - 1), 0
    else:
        scale = (high - low) / (2**bits - 1)
        zero_point = round(-low / scale) - 2 ** (bits - 1)
    state = "fixed" if quantizer.fixed_range else "observing" if read(quantizer.observing) > 0.5 else "frozen"
    return RangeRow(path, index, port, low, high, scale, zero_point, bits, symmetric, state)


def _kernel_row(path: str, attribute: str, variable: Any, quantizer: KernelQuantizer) -> KernelRow:
    bounds = np.asarray(quantizer.bound(read(variable)))
    granularity = "tensor" if quantizer.axes is None else f"{bounds.size} channels"
    shape = tuple(int(size) for size in variable.shape)
    return KernelRow(path, attribute.lstrip("_"), shape, quantizer.bits, granularity, float(bounds.max()))


def _range_texts(row: RangeRow) -> tuple[str, ...]:
    bits = f"{row.bits}{' sym' if row.symmetric else ''}"
    if row.low is None or row.high is None or row.scale is None:
        return row.layer, row.port, str(row.call), "-", "-", "-", "-", bits, row.state
    figures = (f"{row.low:.4g}", f"{row.high:.4g}", f"{row.scale:.3g}", str(row.zero_point))
    return row.layer, row.port, str(row.call), *figures, bits, row.state


def _kernel_texts(row: KernelRow) -> tuple[str, ...]:
    return row.layer, row.kernel, "x".join(map(str, row.shape)), str(row.bits), row.granularity, f"{row.bound:.4g}"
