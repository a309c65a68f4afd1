"""How long files take on this machine, measured in turns so that a busy moment hits all of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

_WARM_UP = 2


@dataclass(frozen=True)
class Latency:
    """Time of one call of a file.

    Attributes:
        name: what was timed, e.g. ``"int8"``.
        threads: it ran on.
        minimum, median: in ms.
        runs: how many.
        spread: between the quarter of slow and the quarter of fast runs, in ms (interquartile range).
    """

    name: str
    threads: int
    minimum: float
    median: float
    runs: int
    spread: float = 0.0


def time_in_turns(
    programs: Mapping[str, Callable[[], object]],
    threads: int,
    *,
    seconds: float = 2.0,
    least: int = 10,
    settle: int = 0,
) -> list[Latency]:
    """Times programs, one run of each after the other.

    Args:
        programs: name -> a function that runs it once.
        threads: that they use; carried in the result.
        seconds: how long to go on.
        least: runs of each, however long they take.
        settle: runs before each timed one. Different engines want one: threads of the engine before may still spin.
    """
    for run in programs.values():
        for _ in range(_WARM_UP):
            run()
    times: dict[str, list[float]] = {name: [] for name in programs}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < least or time.perf_counter() < end:
        for name, run in programs.items():
            for _ in range(settle):
                run()
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
        rounds += 1
    return [_summed_up(name, threads, runs) for name, runs in times.items()]


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _summed_up(name: str, threads: int, runs: list[float]) -> Latency:
    fast, median, slow = (float(value) for value in np.percentile(runs, (25, 50, 75)))
    return Latency(name, threads, min(runs), median, len(runs), slow - fast)
