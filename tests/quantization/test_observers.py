"""What each observer makes of what a quantizer has seen."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.observers import (
    BINS,
    MSE,
    MinMax,
    MovingAverage,
    Percentile,
    Seen,
    get_observer,
    squared_error,
)

layers = keras.layers


def seen_of(values, batches=1):
    """What a quantizer would have seen of the values, in batches."""
    seen = Seen()
    for part in np.array_split(np.asarray(values, np.float32), batches):
        seen.add(float(part.min()), float(part.max()))
        counts, edges = np.histogram(part, BINS)
        seen.add_histogram(edges, counts)
    return seen


def fake_quantized(values, low, high, bits, symmetric):
    low, high = (min(low, -high), max(high, -low)) if symmetric else (low, high)
    return tf.quantization.fake_quant_with_min_max_vars(
        values.astype("float32"), low, high, num_bits=bits, narrow_range=symmetric
    ).numpy()


def test_min_max_is_all_that_was_seen():
    assert MinMax().range_of(seen_of([-3, 1, 2, 7, 0, 1], 3), 8, False) == (-3.0, 7.0)


def test_a_moving_average_starts_at_the_first_batch_and_follows():
    seen = seen_of([-1, 1, -3, 5], 2)
    assert MovingAverage(0.5).range_of(seen, 8, False) == (-2.0, 3.0)


def assert_is_percentile(found, values, percentile):
    """That it is between the two values the percentile falls between, far apart in a tail, but for two bins."""
    below, above = (np.percentile(values, percentile, method=method) for method in ("lower", "higher"))
    assert below - 2 * np.ptp(values) / BINS <= found <= above + 2 * np.ptp(values) / BINS


@pytest.mark.parametrize("batches", [1, 7])
@pytest.mark.parametrize("percentile", [95.0, 99.9])
def test_percentiles_are_numpys(percentile, batches, random):
    values = random.normal(1, 2, 70_000)
    low, high = Percentile(percentile).range_of(seen_of(values, batches), 8, False)
    assert_is_percentile(low, values, 100 - percentile)
    assert_is_percentile(high, values, percentile)
    low, high = Percentile(percentile).range_of(seen_of(values, batches), 8, True)
    assert high == -low
    assert_is_percentile(high, np.abs(values), percentile)


def test_merging_histograms_loses_no_value(random):
    parts = [random.normal(0, scale, 1000) for scale in (1, 8, 0.1, 3)]
    seen = seen_of(np.concatenate(parts), 4)
    assert seen.counts.sum() == pytest.approx(4000)
    assert (seen.edges[0], seen.edges[-1]) == pytest.approx((min(seen.lows), max(seen.highs)))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_the_error_of_a_range_is_that_of_fake_quantization(bits, symmetric, random):
    values = random.normal(0.5, 1, 200_000)
    counts, edges = np.histogram(values, BINS)
    for low, high in ((-2.1, 2.0), (-1.0, 3.2), (0.0, 4.0), (-5.0, 0.0)):  # none with zero midway between two steps
        if symmetric:
            low, high = min(low, -high), max(high, -low)
        expected = np.sum((fake_quantized(values, low, high, bits, symmetric) - values) ** 2)
        found = squared_error(edges[:-1], edges[1:], counts, low, high, bits, symmetric)
        assert found == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("kind", ["two-sided", "relu", "skewed"])
def test_mse_finds_as_good_a_range_as_trying_them_all(kind, bits, symmetric):
    random = np.random.default_rng(5)
    values = {
        "two-sided": random.standard_t(4, 20_000),
        "relu": np.maximum(random.standard_t(4, 20_000), 0),
        "skewed": random.lognormal(0, 0.7, 20_000) - 1,
    }[kind]

    def error(low, high):
        return np.mean((fake_quantized(values, low, high, bits, symmetric) - values) ** 2)

    low, high = MSE().range_of(seen_of(values), bits, symmetric)
    ends = [np.linspace(0, end, 41)[1:] if end else [0.0] for end in (min(values.min(), 0), values.max())]
    if symmetric:
        best = min(error(-bound, bound) for bound in np.linspace(0, np.abs(values).max(), 401)[1:])
    else:
        best = min(error(a, b) for a in ends[0] for b in ends[1])
    assert error(low, high) <= 1.03 * best
    if bits < 8:
        assert error(low, high) < 0.9 * error(values.min(), values.max())  # all that was seen is clearly worse


def test_mse_at_16_bits_clips_next_to_nothing(random):
    values = random.normal(0, 1, 20_000)
    high = MSE().range_of(seen_of(values), 16, True)[1]
    assert high > 0.95 * np.abs(values).max()


def test_observers_are_named_and_near_names_suggested():
    assert get_observer("percentile") == Percentile(99.99)
    assert get_observer(Percentile(99.0)) == Percentile(99.0)
    with pytest.raises(KeyError, match="percentil.*Did you mean 'percentile'.*min_max, moving_average"):
        get_observer("percentil")
    with pytest.raises(TypeError, match="Percentile"):
        get_observer(99.9)
    with pytest.raises(TypeError, match="Percentile"):
        get_observer(Percentile)
    for make in (lambda: Percentile(50), lambda: Percentile(101), lambda: MovingAverage(1.0), lambda: MSE(points=1)):
        with pytest.raises(ValueError, match="must be|at least"):
            make()
