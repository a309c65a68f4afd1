"""Files of small networks pass their report and our own check, whatever fuses: part of the sweep of fusions."""

from __future__ import annotations

import pytest

from tests.sweeps.fusions import ACTIVATIONS, AFTER, BEFORE, attempt

# Each activation, and what stands before it and reads it in turn.
TENSORRT = ("gpu tensorrt", "portable tensorrt")
COVERING = [
    (activation, list(BEFORE)[(i + i // 3) % 3], list(AFTER)[i % len(AFTER)], TENSORRT[i % 2])
    for i, activation in enumerate(ACTIVATIONS)
]
# What each was once wrong with.
KNOWN = [
    ("sigmoid", "conv", "conv", "portable tensorrt"),  # a fixed range: the convolution behind it was in float
    ("tanh", "add", "conv", "portable tensorrt"),
    ("relu to 4", "add", "conv", "portable tensorrt"),
    ("leaky_relu", "add", "conv", "portable tensorrt"),  # Q/DQ between the sum and its activation
    ("hard_sigmoid", "add", "conv", "gpu tensorrt"),  # kernels were not found
    ("linear", "conv", "permute-activated-dense", "portable litert"),
    ("prelu", "conv", "conv", "gpu tensorrt"),  # avoidable transpositions
    ("relu", "conv", "dense", "portable tensorrt"),
    ("relu", "concat", "permute", "portable tensorrt"),  # compared with the axes in another order
]


@pytest.mark.parametrize("case", [*COVERING, *KNOWN], ids="/".join)
def test_the_file_passes_its_report_and_our_check(case):
    *network, way = case
    (problems,) = attempt(*network, ways=(way,)).values()
    allowed = "warning needless" if way in TENSORRT else "output"  # LiteRT's parity has tests of its own
    assert not [one for one in problems if not one.startswith(allowed)], problems
