"""Calibration: what each observer makes of data, and that bad data changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones.keras_api import keras
from resnet_backbones.quantization import context, quantize_aware, quantizers_of
from resnet_backbones.quantization.calibration import calibrate, image_batches
from resnet_backbones.quantization.observers import (
    BINS,
    MSE,
    MinMax,
    MovingAverage,
    Observer,
    Percentile,
    Seen,
    get_observer,
    squared_error,
)

RANDOM = np.random.default_rng(0)
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


# --- observers -----------------------------------------------------------------------------------------------------


def test_min_max_is_all_that_was_seen():
    assert MinMax().range_of(seen_of([-3, 1, 2, 7, 0, 1], 3), 8, False) == (-3.0, 7.0)


def test_a_moving_average_starts_at_the_first_batch_and_follows():
    seen = seen_of([-1, 1, -3, 5], 2)
    assert MovingAverage(0.5).range_of(seen, 8, False) == (-2.0, 3.0)


@pytest.mark.parametrize("batches", [1, 7])
@pytest.mark.parametrize("percentile", [95.0, 99.9])
def test_percentiles_are_numpys(percentile, batches):
    values = RANDOM.normal(1, 2, 70_000)
    width = np.ptp(values) / BINS
    low, high = Percentile(percentile).range_of(seen_of(values, batches), 8, False)
    assert low == pytest.approx(np.percentile(values, 100 - percentile), abs=2 * width)
    assert high == pytest.approx(np.percentile(values, percentile), abs=2 * width)
    low, high = Percentile(percentile).range_of(seen_of(values, batches), 8, True)
    assert high == -low == pytest.approx(np.percentile(np.abs(values), percentile), abs=2 * width)


def test_merging_histograms_loses_no_value():
    parts = [RANDOM.normal(0, scale, 1000) for scale in (1, 8, 0.1, 3)]
    seen = seen_of(np.concatenate(parts), 4)
    assert seen.counts.sum() == pytest.approx(4000)
    assert (seen.edges[0], seen.edges[-1]) == pytest.approx((min(seen.lows), max(seen.highs)))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_the_error_of_a_range_is_that_of_fake_quantization(bits, symmetric):
    values = RANDOM.normal(0.5, 1, 200_000)
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


def test_mse_at_16_bits_clips_next_to_nothing():
    values = RANDOM.normal(0, 1, 20_000)
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


# --- models --------------------------------------------------------------------------------------------------------


def network():
    """A shared convolution, called twice, behind a first one, on 8x8 images."""
    keras.utils.set_random_seed(1)
    image = layers.Input((8, 8, 3))
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, padding="same", name="first")(image))
    x = shared(shared(layers.ReLU(name="relu")(x)))
    return quantize_aware(keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(x)))


@pytest.fixture(scope="module")
def calibrated():
    """A quantized network with ranges of its own, and the images they are of."""
    images = np.random.default_rng(3).normal(size=(20, 8, 8, 3)).astype("float32")
    return calibrate(network(), images), images


def state(model):
    return [weight.copy() for weight in model.get_weights()]


def assert_as_it_was(model, before):
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def ranges(model):
    return {quantizer.name: quantizer.range() for quantizer in quantizers_of(model)}


def test_every_range_is_what_the_float_model_computes(calibrated):
    model, images = calibrated
    found = ranges(model)
    with_float = keras.Model(model.input, [model.get_layer("relu").output, model.get_layer("pool").output])
    with context.use_mode(context.FLOAT):
        relu, pool = (part.numpy() for part in with_float(images, training=False))
        first = model.get_layer("shared")(relu).numpy()
        second = model.get_layer("shared")(first).numpy()
    sites = {"relu_quantizer_output_0": relu, "shared_quantizer_output_0": first, "shared_quantizer_output_1": second}
    for name, values in {**sites, "pool_quantizer_output_0": pool}.items():
        assert found[name] == pytest.approx((min(values.min(), 0), max(values.max(), 0)), abs=1e-5), name
    assert found["shared_quantizer_output_0"] != found["shared_quantizer_output_1"]


def test_it_counts_batches_and_leaves_all_else_alone(calibrated):
    model, images = calibrated
    assert {float(q.batches_seen.numpy()) for q in quantizers_of(model)} == {2.0}  # 20 images, 16 a batch
    ours = {id(weight) for quantizer in quantizers_of(model) for weight in quantizer.weights}
    others = [weight for weight in model.weights if id(weight) not in ours]
    before = [weight.numpy() for weight in others]
    assert len(before) >= 8
    calibrate(model, 9 * images, "mse")
    for weight, expected in zip(others, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), expected)
    calibrate(model, images)


def test_arrays_data_sets_tuples_dictionaries_and_generators_give_the_same(calibrated):
    model, images = calibrated
    for observer in ("min_max", "percentile"):
        expected = ranges(calibrate(model, images, observer))
        data_set = tf.data.Dataset.from_tensor_slices((images, np.zeros(len(images)))).batch(16)
        pictures = tf.data.Dataset.from_tensor_slices({"images": images}).batch(16)
        for data in (data_set, pictures, (images[i : i + 16] for i in (0, 16)), tf.constant(images)):
            assert ranges(calibrate(model, data, observer)) == expected


def test_an_outlier_widens_min_max_but_no_percentile(calibrated):
    model, images = calibrated
    spoilt = images.copy()
    spoilt[0, 0, 0, 0] = 200.0
    widest = ranges(calibrate(model, spoilt, "min_max"))
    image = next(name for name, range_ in widest.items() if range_[1] == 200.0)
    assert ranges(calibrate(model, spoilt, Percentile(99.9)))[image][1] < 10.0
    assert ranges(calibrate(model, spoilt, Percentile(100.0)))[image][1] == pytest.approx(200.0)
    calibrate(model, images)


def test_symmetric_quantizers_get_symmetric_ranges():
    images = RANDOM.normal(size=(4, 8, 8, 3)).astype("float32")
    image = layers.Input((8, 8, 3))
    model = quantize_aware(keras.Model(image, layers.Conv2D(2, 3, activation="relu")(image)), "edge_int16x8")
    for observer in ("min_max", "moving_average", "percentile", "mse"):
        calibrate(model, images, observer)
        assert all(low == -high for low, high in ranges(model).values()), observer


def test_an_observer_of_ones_own(calibrated):
    class Twice(Observer):
        def range_of(self, seen, bits, symmetric):
            return 2 * min(seen.lows), 2 * max(seen.highs)

    model, images = calibrated
    once = ranges(calibrate(model, images))
    twice = ranges(calibrate(model, images, Twice()))
    for name, (low, high) in once.items():
        assert twice[name] == pytest.approx((2 * low, 2 * high), rel=1e-6)
    calibrate(model, images)


def broken_generator(images):
    yield 9 * images
    raise RuntimeError("the disk is full")


def overflowing(images):
    return [9 * images, images / np.abs(images).max() * np.float32(3e38)]  # finite, but not once convolved


def with_nan(images, value):
    spoilt = 9 * images
    spoilt[-1, 3, 3, 1] = value
    return spoilt


BAD = {
    "empty list": (lambda images: [], ValueError, "empty"),
    "empty array": (lambda images: images[:0], ValueError, "empty"),
    "empty data set": (lambda images: tf.data.Dataset.from_tensor_slices(images[:0]).batch(2), ValueError, "empty"),
    "nan": (lambda images: with_nan(images, np.nan), ValueError, "Batch 2 .*NaN or infinity"),
    "infinity": (lambda images: with_nan(images, np.inf), ValueError, "Batch 2 .*NaN or infinity"),
    "overflow": (
        lambda images: [9 * images, images / np.abs(images).max() * np.float32(3e38)],
        ValueError,
        "batch 2 .*layer '",
    ),
    "generator": (broken_generator, RuntimeError, "disk is full"),
    "channels": (lambda images: [9 * images, images[..., :2]], ValueError, r"batch 2 .*\(20, 8, 8, 2\).*takes"),
    "no batch axis": (lambda images: list(9 * images), ValueError, r"batch axis is missing.*batch\(16\)"),
    "a number": (lambda images: np.zeros(3, "float32"), ValueError, "batch axis"),
}


@pytest.mark.parametrize("observer", ["min_max", "mse"])
@pytest.mark.parametrize("what", BAD)
def test_bad_data_is_an_error_and_changes_no_range(calibrated, what, observer):
    model, images = calibrated
    make, error, message = BAD[what]
    before = state(model)
    with pytest.raises(error, match=message):
        calibrate(model, make(images), observer)
    assert_as_it_was(model, before)


def test_an_unknown_observer_changes_no_range(calibrated):
    model, images = calibrated
    before = state(model)
    with pytest.raises(KeyError, match="Did you mean 'mse'"):
        calibrate(model, 9 * images, "msr")
    assert_as_it_was(model, before)


def test_an_observer_that_fails_changes_no_range(calibrated):
    class Late(Observer):
        calls = 0

        def range_of(self, seen, bits, symmetric):
            self.calls += 1
            return (0.0, 1.0) if self.calls < 3 else (float("nan"), 1.0)

    model, images = calibrated
    before = state(model)
    with pytest.raises(ValueError, match="two finite numbers"):
        calibrate(model, images, Late())
    assert_as_it_was(model, before)


def test_nan_in_a_layer_names_the_layer(calibrated):
    model, images = calibrated
    shared = model.get_layer("shared")
    before = state(model)
    whole = shared.get_weights()
    shared.set_weights([whole[0] * np.nan, *whole[1:]])
    with pytest.raises(ValueError, match="'shared'.*output_0.*weights may hold NaN"):
        calibrate(model, images)
    shared.set_weights(whole)
    assert_as_it_was(model, before)


def test_values_that_do_not_change_are_no_trouble(calibrated):
    model, images = calibrated
    for observer in ("percentile", "mse"):
        calibrate(model, np.zeros_like(images), observer)
        assert all(np.isfinite(range_).all() for range_ in ranges(model).values())
    calibrate(model, images)


def test_batches_of_an_array_are_all_of_it():
    images = RANDOM.normal(size=(5, 2, 2, 1))
    batches = [np.asarray(batch) for batch in image_batches(images, batch_size=2)]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(batches), images)
