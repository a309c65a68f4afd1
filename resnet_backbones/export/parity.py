"""How far the outputs of a file are from the Keras model's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
