"""How far the outputs of a file are from the Keras model's, and how far they may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Least cosine of each output with the Keras model's, in the form that was exported.
COSINE = 0.999
#: Least share of an output's values at most two steps of its scale from the Keras model's.
WITHIN_TWO_STEPS = 0.99
#: Where the quantized Keras model does not come that near to itself: so many times its own deviation is allowed. How
#: far one run is from another is a matter of chance too: on four images, by a factor of two.
TIMES_ITS_OWN = 2.0
#: Least cosine whatever the model's own deviation is.
LEAST_COSINE = 0.99


@dataclass(frozen=True)
class OutputParity:
    """How far one output of the file is from the Keras model's, on the same images.

    Attributes:
        name: of the output.
        values: how many were compared.
        max_steps, mean_steps: absolute error in steps of the output's int8 scale; of a float file, in float32 units.
        within_two_steps: share of the values at most two steps off; ``None`` for a float file.
        cosine: between the two, flattened.
        of_itself: the same between runs of the quantized Keras model itself, each value shifted by
            3e-5 of a step at most before it is rounded; measured where the file would fail without.
    """

    name: str
    values: int
    max_steps: float
    mean_steps: float
    within_two_steps: float | None
    cosine: float
    of_itself: tuple[OutputParity, ...] = ()

    @property
    def cosine_wanted(self) -> float:
        """Least cosine that passes."""
        own = [1.0 - entry.cosine for entry in self.of_itself]
        return min(COSINE, max(LEAST_COSINE, 1.0 - TIMES_ITS_OWN * float(np.mean(own)))) if own else COSINE

    @property
    def within_two_steps_wanted(self) -> float:
        """Least share of values within two steps that passes."""
        own = [1.0 - (entry.within_two_steps or 0.0) for entry in self.of_itself]
        return min(WITHIN_TWO_STEPS, 1.0 - TIMES_ITS_OWN * float(np.mean(own))) if own else WITHIN_TWO_STEPS

    @property
    def failures(self) -> list[str]:
        """What does not pass, in words."""
        found = []
        if not self.cosine >= self.cosine_wanted:
            found.append(
                f"output {self.name!r}: cosine {self.cosine:.6f} with Keras, {self.cosine_wanted:.6g} is wanted"
            )
        if self.within_two_steps is not None and self.within_two_steps < self.within_two_steps_wanted:
            found.append(
                f"output {self.name!r}: {100 * self.within_two_steps:.2f} % of the values within two steps of Keras, "
                f"{100 * self.within_two_steps_wanted:.4g} % are wanted"
            )
        return found


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
