"""What came out of an export, measured on the file itself."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from resnet_backbones.export.census import Census


@dataclass(frozen=True)
class OutputParity:
    """How far one output of the file is from the Keras model's, on the same images.

    Attributes:
        name: of the output.
        values: how many were compared.
        max_steps, mean_steps: absolute error in steps of the output's int8 scale; of a float file, in float32 units.
        within_two_steps: share of the values at most two steps off; ``None`` for a float file.
        cosine: between the two, flattened.
    """

    name: str
    values: int
    max_steps: float
    mean_steps: float
    within_two_steps: float | None
    cosine: float


def output_parity(name: str, exported: np.ndarray, expected: np.ndarray, step: np.ndarray | None) -> OutputParity:
    """Compares one output.

    Args:
        name: of the output.
        exported: what the file gave, dequantized, float32.
        expected: what the Keras model gave, same shape.
        step: size of an int8 step, broadcastable; ``None`` for a float file.
    """
    error = np.abs(exported.astype(np.float64) - expected)
    steps = error if step is None else error / step
    norms = np.linalg.norm(exported.astype(np.float64)) * np.linalg.norm(expected.astype(np.float64))
    product = float(np.sum(exported.astype(np.float64) * expected))
    return OutputParity(
        name,
        int(error.size),
        float(steps.max(initial=0.0)),
        float(steps.mean()) if error.size else 0.0,
        None if step is None else float(np.mean(steps <= 2.0 + 1e-3)),  # a step is a float32: allow its rounding
        product / float(norms) if norms else 1.0,
    )


@dataclass
class ExportReport:
    """What is in an exported file, and how close it is to the Keras model. Printing it gives tables.

    Attributes:
        path: the file.
        precision: ``"float32"``, ``"float16"`` or ``"int8"``.
        size_bytes: of the file.
        census: operators and multiply-accumulates, read from the file.
        left_in_float: layer -> why it has no int8 form.
        parity: one entry an output, on the parity data; empty when none was given.
    """

    path: Path
    precision: str
    size_bytes: int
    census: Census
    left_in_float: dict[str, str] = field(default_factory=dict)
    parity: list[OutputParity] = field(default_factory=list)

    @property
    def operators(self) -> dict[tuple[str, str], int]:
        """(operator, type) -> how many, e.g. ``("CONV_2D", "int8"): 20``."""
        return self.census.counts()

    @property
    def int8_mac_share(self) -> float:
        """Share of multiply-accumulates computed in int8, 0 to 1, counted from the file."""
        return self.census.int8_share

    @property
    def float_operators(self) -> dict[str, str]:
        """Every operator that is not int8, by its output tensor, and why."""
        if self.precision != "int8":
            return {op.output: f"{op.kind}: the file was exported as {self.precision}" for op in self.census.not_int8()}
        return {op.output: f"{op.kind}: {self._reason(op)}" for op in self.census.not_int8()}

    def _reason(self, operator: Any) -> str:
        for layer, reason in self.left_in_float.items():
            if f"/{layer}" in f"/{operator.output}" or any(f"/{layer}" in f"/{name}" for name in operator.inputs):
                return reason
        return "no range on its output: it follows an operation that is no layer, or a layer that was excluded"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return {
            "path": str(self.path),
            "precision": self.precision,
            "size_bytes": self.size_bytes,
            "operators": {f"{kind} {dtype}": count for (kind, dtype), count in sorted(self.operators.items())},
            "multiply_accumulates": self.census.macs,
            "int8_mac_share": self.int8_mac_share,
            "float_operators": self.float_operators if self.precision == "int8" else {},
            "parity": [vars(entry) for entry in self.parity],
        }

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=110)
        console.print(
            f"{self.path}  {self.precision}  {self.size_bytes / 1e6:.2f} MB  {self.census.macs / 1e9:.3f} GMACs, "
            f"{100 * self.int8_mac_share:.2f} % in int8",
            highlight=False,
            soft_wrap=True,  # a long path must not break the line
        )
        table = Table("operator", "type", "count", title="Operators")
        for (kind, dtype), count in sorted(self.operators.items(), key=lambda item: -item[1]):
            table.add_row(kind, dtype, str(count))
        console.print(table)
        if self.precision == "int8" and self.float_operators:
            table = Table("output tensor", "why", title="Not int8")
            for name, reason in self.float_operators.items():
                table.add_row(name[-60:], reason)
            console.print(table)
        if self.parity:
            unit = "steps" if self.precision == "int8" else "float32"
            table = Table(
                "output", "values", f"max ({unit})", f"mean ({unit})", "within 2 steps", "cosine", title="Against Keras"
            )
            for p in self.parity:
                share = "" if p.within_two_steps is None else f"{100 * p.within_two_steps:.2f} %"
                table.add_row(
                    p.name, str(p.values), f"{p.max_steps:.3g}", f"{p.mean_steps:.3g}", share, f"{p.cosine:.6f}"
                )
            console.print(table)
        return console.file.getvalue().rstrip()  # type: ignore[attr-defined]
