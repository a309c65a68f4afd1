"""How far the outputs of a file are from the Keras model's, and how far they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: Least cosine of each output with the Keras model's, in the form that was exported.
COSINE = 0.999
#: Least share of an output's values at most two steps of its scale from the Keras model's.
WITHIN_TWO_STEPS = 0.99
#: Where the quantized Keras model does not come that near to itself: so many times its own deviation is allowed. How
#: far one run is from another is a matter of chance too: on four images, by a factor of two.
TIMES_ITS_OWN = 2.0
#: And least part of the values within two steps that the model itself keeps: deep networks, with 16 bits, keep so few
#: that twice their deviation allows any file.
PART_OF_ITS_OWN = 0.5
#: Least cosine whatever the model's own deviation is.
LEAST_COSINE = 0.99
#: Of scores a class and pixel: least share of the pixels whose class is Keras'. With that many, and as good a part of
#: each class, values may be further off: at the edge of an object the softmax takes many steps from pixel to pixel.
SAME_CLASS = 0.995
#: With that many, the cosine may be ``LEAST_COSINE``: of a network sure of each pixel it is no more than their share.
NEARLY_ALL = 0.999
#: The same of each class by itself, of those that hold so large a part of the pixels.
SAME_CLASS_OF_EACH, PART_OF_A_CLASS = 0.95, 0.01


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
        same_class: of a segmentation, share of the pixels whose class is Keras', or one that Keras scores within two
            steps of it; ``None`` for other outputs.
        same_class_of_worst: the same of the class that fares worst, of those with 1 % of the pixels or more; ``None``
            where all pixels have one class but 1 %, which any file might give them.
    """

    name: str
    values: int
    max_steps: float
    mean_steps: float
    within_two_steps: float | None
    cosine: float
    of_itself: tuple[OutputParity, ...] = ()
    same_class: float | None = None
    same_class_of_worst: float | None = None

    @property
    def cosine_wanted(self) -> float:
        """Least cosine that passes."""
        own = [1.0 - entry.cosine for entry in self.of_itself]
        return min(COSINE, max(LEAST_COSINE, 1.0 - TIMES_ITS_OWN * float(np.mean(own)))) if own else COSINE

    @property
    def within_two_steps_wanted(self) -> float:
        """Least share of values within two steps that passes."""
        if not self.of_itself:
            return WITHIN_TWO_STEPS
        own = float(np.mean([entry.within_two_steps or 0.0 for entry in self.of_itself]))
        return min(WITHIN_TWO_STEPS, max(1.0 - TIMES_ITS_OWN * (1.0 - own), PART_OF_ITS_OWN * own))

    @property
    def classes_agree(self) -> bool:
        """Whether a segmentation gives pixels Keras' classes."""
        if self.same_class is None or self.same_class_of_worst is None or self.same_class_of_worst < SAME_CLASS_OF_EACH:
            return False
        wanted = LEAST_COSINE if self.same_class >= NEARLY_ALL else self.cosine_wanted
        return self.same_class >= SAME_CLASS and self.cosine >= wanted

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
        if found and self.same_class_of_worst is not None:
            found.append(
                f"output {self.name!r}: {100 * (self.same_class or 0.0):.2f} % of the pixels have Keras' class, of the "
                f"worst class {100 * self.same_class_of_worst:.2f} %; {100 * SAME_CLASS:.4g} % and "
                f"{100 * SAME_CLASS_OF_EACH:.4g} % would make up for values"
            )
        return [] if self.classes_agree else found


def output_parity(
    name: str, exported: np.ndarray, expected: np.ndarray, step: np.ndarray | None, class_per_pixel: bool = False
) -> OutputParity:
    """Compares one output.

    Args:
        name: of the output.
        exported: what the file gave, dequantized, float32.
        expected: what the Keras model gave, same shape.
        step: size of an int8 step, broadcastable; ``None`` for a float file.
        class_per_pixel: whether its last axis holds a score a class, the highest of which counts.
    """
    error = np.abs(exported.astype(np.float64) - expected)
    steps = error if step is None else error / step
    norms = np.linalg.norm(exported.astype(np.float64)) * np.linalg.norm(expected.astype(np.float64))
    product = float(np.sum(exported.astype(np.float64) * expected))
    classes = _same_classes(exported, expected, 0.0 if step is None else step) if class_per_pixel else (None, None)
    return OutputParity(
        name,
        int(error.size),
        float(steps.max(initial=0.0)),
        float(steps.mean()) if error.size else 0.0,
        None if step is None else float(np.mean(steps <= 2.0 + 1e-3)),  # a step is a float32: allow its rounding
        product / float(norms) if norms else 1.0,
        same_class=classes[0],
        same_class_of_worst=classes[1],
    )


def _same_classes(exported: np.ndarray, expected: np.ndarray, step: Any) -> tuple[float | None, float | None]:
    """Share of the pixels whose class is Keras', or as good as that, of all and of the class that fares worst."""
    if expected.ndim < 3 or expected.shape[-1] < 2 or not expected.size:
        return None, None
    nearly_best = expected >= expected.max(-1, keepdims=True) - 2.001 * np.broadcast_to(step, expected.shape)
    same = np.take_along_axis(nearly_best, exported.argmax(-1)[..., None], -1)[..., 0]
    classes = expected.argmax(-1)
    shares = [np.mean(classes == number) for number in range(expected.shape[-1])]
    of_each = [np.mean(same[classes == number]) for number, share in enumerate(shares) if share >= PART_OF_A_CLASS]
    return float(np.mean(same)), float(min(of_each)) if len(of_each) > 1 else None
