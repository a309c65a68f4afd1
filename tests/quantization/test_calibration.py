"""Calibrating models: every range from the data, and none from bad data."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import context, quantize_aware, quantizers_of
from resnet_backbones.quantization.calibration import calibrate, image_batches
from resnet_backbones.quantization.observers import Observer, Percentile

layers = keras.layers


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


def test_symmetric_quantizers_get_symmetric_ranges(random):
    images = random.normal(size=(4, 8, 8, 3)).astype("float32")
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
    with pytest.raises(ValueError, match="/shared'.*output.*weights may hold NaN"):
        calibrate(model, images)
    shared.set_weights(whole)
    assert_as_it_was(model, before)


def test_values_that_do_not_change_are_no_trouble(calibrated):
    model, images = calibrated
    for observer in ("percentile", "mse"):
        calibrate(model, np.zeros_like(images), observer)
        assert all(np.isfinite(range_).all() for range_ in ranges(model).values())
    calibrate(model, images)


def test_batches_of_an_array_are_all_of_it(random):
    images = random.normal(size=(5, 2, 2, 1))
    batches = [np.asarray(batch) for batch in image_batches(images, batch_size=2)]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(batches), images)
