"""What ``predict`` returns, one object an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects found in one image, best first.

    Args:
        boxes: ``(n, 4)`` float32, in the model's bounding box format; pixel formats are in pixels of the
            image as it was given, not as it was resized.
        classes: ``(n,)`` int64, class numbers.
        scores: ``(n,)`` float32, 0 to 1.
        names: the classes' names, or ``None`` where the file holds none.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Classification:
    """The most likely classes of one image, best first.

    Args:
        classes: ``(k,)`` int64, class numbers.
        scores: ``(k,)`` float32, probabilities.
        names: the classes' names, or ``None`` where the file holds none.
    """

    classes: np.ndarray
    scores: np.ndarray
    names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.scores)
