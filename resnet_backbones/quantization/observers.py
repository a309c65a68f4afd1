"""How a range is read off calibration data: observers, chosen by name or by instance.

An observer sees the smallest and largest value of every batch and, where it asks for one, a histogram of all values.
It says which range to use; it holds no state of its own, so one instance serves every quantizer of a model.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

import numpy as np

BINS = 2048  # of the histogram, a batch's and the sum's


@dataclass
class Seen:
    """What one quantizer saw of the calibration data.

    Attributes:
        lows, highs: smallest and largest value, a batch each.
        edges, counts: the histogram of all values, ``BINS`` bins of equal width; empty if no observer needs it.
    """

    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    edges: np.ndarray = field(default_factory=lambda: np.zeros(0))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, low: float, high: float) -> None:
        """Adds a batch's smallest and largest value."""
        self.lows.append(low)
        self.highs.append(high)

    def add_histogram(self, edges: np.ndarray, counts: np.ndarray) -> None:
        """Adds a batch's histogram; where it reaches beyond what was seen, the bins are made wider.

        Values count as spread evenly over their bin, so the sum of counts is kept exactly.
        """
        if not self.counts.size:
            self.edges, self.counts = edges.astype(np.float64), counts.astype(np.float64)
            return
        both = min(self.edges[0], edges[0]), max(self.edges[-1], edges[-1])
        wider = self.edges if both == (self.edges[0], self.edges[-1]) else np.linspace(*both, len(self.edges))
        self.counts = _rebinned(self.edges, self.counts, wider) + _rebinned(edges, counts, wider)
        self.edges = wider


def _rebinned(edges: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if wanted is edges:
        return counts
    total = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    return np.diff(np.interp(wanted, edges, total))


class Observer:
    """Reads a range off what was seen. Subclass it and pass an instance for one of your own.

    Attributes:
        needs_histogram: whether :attr:`Seen.counts` must be filled.

    Example:
        >>> class Widened(Observer):
        ...     def range_of(self, seen, bits, symmetric):
        ...         return 1.1 * min(seen.lows), 1.1 * max(seen.highs)
        >>> calibrate(model, images, observer=Widened())
    """

    needs_histogram = False

    def range_of(self, seen: Seen, bits: int, symmetric: bool) -> tuple[float, float]:
        """(smallest, largest) value to quantize; zero is put inside, and symmetry made, by the caller."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it reads a range: define range_of.")


@dataclass(frozen=True)
class MinMax(Observer):
    """All that was seen: nothing is clipped, and one outlier sets the step of every value."""

    def range_of(self, seen: Seen, bits: int, symmetric: bool) -> tuple[float, float]:
        return min(seen.lows), max(seen.highs)


@dataclass(frozen=True)
class MovingAverage(Observer):
    """An exponential moving average of the batches' smallest and largest values, starting at the first batch's.

    Args:
        decay: share of the average that a batch leaves as it was.

    Raises:
        ValueError: ``decay`` is not in [0, 1).

    Source: Jacob et al., 2017, https://arxiv.org/abs/1712.05877, section 3.1
    """

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"MovingAverage: decay must be in [0, 1), got {self.decay}.")

    def range_of(self, seen: Seen, bits: int, symmetric: bool) -> tuple[float, float]:
        low, high = seen.lows[0], seen.highs[0]
        for next_low, next_high in zip(seen.lows, seen.highs, strict=True):
            low += (1.0 - self.decay) * (next_low - low)
            high += (1.0 - self.decay) * (next_high - high)
        return low, high


@dataclass(frozen=True)
class Percentile(Observer):
    """Clips the rarest values: at each end, or in magnitude where the range is symmetric.

    Args:
        percentile: of the values that the upper bound leaves unclipped; as many are at the lower bound.

    Raises:
        ValueError: ``percentile`` is not above 50 and at most 100.

    Source: Wu et al., "Integer Quantization for Deep Learning Inference", 2020, https://arxiv.org/abs/2004.09602
    """

    percentile: float = 99.99
    needs_histogram = True

    def __post_init__(self) -> None:
        if not 50.0 < self.percentile <= 100.0:
            raise ValueError(f"Percentile: percentile must be above 50 and at most 100, got {self.percentile}.")

    def range_of(self, seen: Seen, bits: int, symmetric: bool) -> tuple[float, float]:
        share = self.percentile / 100.0
        total = np.concatenate([[0.0], np.cumsum(seen.counts)]) / seen.counts.sum()
        if not symmetric:
            low, high = np.interp([1.0 - share, share], total, seen.edges)
            return float(low), float(high)
        bounds = np.linspace(0.0, np.abs(seen.edges).max(), len(seen.edges))
        inside = np.interp(bounds, seen.edges, total) - np.interp(-bounds, seen.edges, total)
        bound = float(np.interp(share, inside, bounds))
        return -bound, bound


@dataclass(frozen=True)
class MSE(Observer):
    """The range that makes the mean squared error of quantizing least: of rounding and of clipping together.

    The error is computed on the histogram, values counting as spread evenly over their bin, for the quantizer's own
    bits. Both ends are searched together on a grid, which then closes in on its best point.

    Args:
        points: of the grid, each way.
        rounds: how often the grid closes in.

    Raises:
        ValueError: fewer than 3 points or no round.

    Source: Nagel et al., "A White Paper on Neural Network Quantization", 2021, https://arxiv.org/abs/2106.08295
    """

    points: int = 12
    rounds: int = 4
    needs_histogram = True

    def __post_init__(self) -> None:
        if self.points < 3 or self.rounds < 1:
            raise ValueError(f"MSE: at least 3 points and 1 round, got points={self.points}, rounds={self.rounds}.")

    def range_of(self, seen: Seen, bits: int, symmetric: bool) -> tuple[float, float]:
        filled = np.flatnonzero(seen.counts)
        left, right, counts = seen.edges[filled], seen.edges[filled + 1], seen.counts[filled]
        low, high = min(float(left[0]), 0.0), max(float(right[-1]), 0.0)
        if symmetric:
            low, high = -max(-low, high), max(-low, high)
        lows, highs = self._shares(low), self._shares(high)
        for _ in range(self.rounds):
            pairs = [(share, share) for share in highs] if symmetric else [(a, b) for a in lows for b in highs]
            errors = [squared_error(left, right, counts, low * a, high * b, bits, symmetric) for a, b in pairs]
            best_low, best_high = pairs[int(np.argmin(errors))]
            lows, highs = self._around(best_low, lows), self._around(best_high, highs)
        return float(low * best_low), float(high * best_high)

    def _shares(self, end: float) -> np.ndarray:
        """Shares of one end of the full range to try; of an end that is zero, one."""
        return np.linspace(0.0, 1.0, self.points + 1)[1:] if end else np.ones(1)

    def _around(self, best: float, shares: np.ndarray) -> np.ndarray:
        """Shares as many, from the best one's neighbour on one side to that on the other."""
        if len(shares) == 1:
            return shares
        width = shares[1] - shares[0]
        return np.linspace(max(best - width, width / self.points), min(best + width, 1.0), self.points)


def squared_error(left, right, counts, low: float, high: float, bits: int, symmetric: bool) -> float:
    """The summed squared error of quantizing a histogram's values to a range.

    Args:
        left: lower edges of the bins.
        right: upper edges.
        counts: how many values a bin has; they count as spread evenly over it.
        low: the smallest value of the range, at most zero. The range is moved, as fake quantization does, so that
            zero is on the grid.
        high: the largest, at least zero.
        bits: of the quantized values.
        symmetric: a grid without its lowest value (a narrow range), so that it is symmetric.

    Returns:
        The error: exact, not sampled, so that it holds for steps finer than the bins too.
    """
    steps = 2**bits - (2 if symmetric else 1)
    step = (high - low) / steps
    if step <= 0.0:
        return float("inf")
    low, high = round(low / step) * step, (steps + round(low / step)) * step
    inner_left, inner_right = np.clip(left, low, high), np.clip(right, low, high)
    rounding = step**3 * (_rounding_integral(inner_right / step) - _rounding_integral(inner_left / step))
    below = (np.minimum(left, low) - low) ** 3 - (np.minimum(right, low) - low) ** 3
    above = (np.maximum(right, high) - high) ** 3 - (np.maximum(left, high) - high) ** 3
    return float(np.sum(counts / (right - left) * (rounding - below / 3 + above / 3)))


def _rounding_integral(x: np.ndarray) -> np.ndarray:
    """The integral of ``(t - round(t)) ** 2`` from 0 to x."""
    nearest = np.round(x)
    return nearest / 12 + (x - nearest) ** 3 / 3


_OBSERVERS = {"min_max": MinMax, "moving_average": MovingAverage, "percentile": Percentile, "mse": MSE}


def get_observer(observer: str | Observer) -> Observer:
    """The observer of that name with its usual settings (an :class:`Observer` is returned as it is).

    Raises:
        KeyError: no observer has that name; the message names the nearest and all of them.
        TypeError: it is neither a name nor an observer.
    """
    if isinstance(observer, Observer):
        return observer
    if not isinstance(observer, str):
        raise TypeError(
            f"An observer is a name ({', '.join(_OBSERVERS)}) or an instance like Percentile(99.9), not {observer!r}."
        )
    if observer not in _OBSERVERS:
        near = difflib.get_close_matches(observer, _OBSERVERS, n=2, cutoff=0.4)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise KeyError(f"No observer is called {observer!r}.{hint} Known: {', '.join(_OBSERVERS)}.")
    return _OBSERVERS[observer]()
