"""Where error comes from, on models with one deliberately bad layer; and what to leave out so that it goes away."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones._util.text import WIDTH
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import context, hooks_of, quantize_aware, quantize_post_training, quantizers_of
from resnet_backbones.quantization.analysis import analyse
from resnet_backbones.quantization.analysis.suggestions import suggest_exclusions
from resnet_backbones.quantization.analysis.switches import switching
from tests.quantization.saving_cases import CASES, IMAGES, quantized, subclassed
from tests.support import training

layers = keras.layers


@pytest.fixture(scope="module")
def digits():
    return training.digits()


def digit_net():
    image = layers.Input((8, 8, 1))
    x = image
    for number, filters in enumerate((8, 16, 16)):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(image, layers.Dense(10, name="head")(layers.Flatten()(x)), name="digit_net")


def spoil(model):
    """One channel behind `relu1` is a thousand times larger, and the next kernel a thousand times smaller there."""
    gamma, beta, *rest = model.get_layer("norm1").get_weights()
    gamma[3], beta[3] = 1000 * gamma[3], 1000 * abs(beta[3]) + 500
    model.get_layer("norm1").set_weights([gamma, beta, *rest])
    (kernel,) = model.get_layer("conv2").get_weights()
    kernel[:, :, 3] /= 1000
    model.get_layer("conv2").set_weights([kernel])
    return model


@pytest.fixture(scope="module")
def trained(digits):
    """Weights of a digit classifier, spoilt for one range of 8 bits."""
    images, classes = digits
    keras.utils.set_random_seed(0)
    model = digit_net()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(images[:1350], classes[:1350], batch_size=64, epochs=6, verbose=0)
    return spoil(model).get_weights()


def spoilt(trained):
    model = digit_net()
    model.set_weights(trained)
    return model


@pytest.fixture
def accuracy(digits):
    images, classes = digits[0][1350:], digits[1][1350:]
    return lambda model: float(np.mean(np.argmax(model.predict(images, batch_size=447, verbose=0), axis=-1) == classes))


def test_the_bad_layer_is_found_and_leaving_it_out_reaches_the_accuracy(trained, digits, accuracy, tmp_path):
    images = digits[0][:64]
    float_accuracy = accuracy(spoilt(trained))
    model = quantize_post_training(spoilt(trained), calibration_data=images)
    assert float_accuracy > 0.9
    assert accuracy(model) < float_accuracy - 0.05  # or there would be nothing to find

    report = analyse(model, images)
    worst = report.layers[0]
    assert worst.layer.endswith("relu1")  # where the range of conv1, norm1, relu1 stands
    assert worst.alone < min(row.alone for row in report.layers[1:]) - 6
    assert worst.alone == pytest.approx(report.output_sqnr, abs=1.0)  # nearly all the error
    report.plot(tmp_path / "error.png")
    assert (tmp_path / "error.png").read_bytes()[:4] == b"\x89PNG"

    for leave in ("float", "int16"):
        found = suggest_exclusions(model, images, metric=accuracy, target=0.01, leave=leave)
        assert found.reached
        assert "conv1" in (found.exclude if leave == "float" else found.override)
        assert found.float_score == pytest.approx(float_accuracy)
        assert found.quantized_score == pytest.approx(accuracy(model))
        fresh = spoilt(trained)
        quantize_post_training(fresh, calibration_data=images, exclude=found.exclude, override=found.override)
        assert accuracy(fresh) >= float_accuracy - 0.01
        assert accuracy(fresh) == pytest.approx(found.steps[-1].score, abs=0.01)
        assert len(found.exclude or found.override) < 8  # not simply everything
        assert json.loads(json.dumps(found.to_dict()))["reached"] is True
        assert max(map(len, str(found).splitlines())) <= WIDTH


def test_without_a_metric_the_noise_at_the_outputs_is_the_target(trained, digits):
    images = digits[0][:64]
    model = quantize_post_training(spoilt(trained), calibration_data=images)
    before = analyse(model, images).output_sqnr
    found = suggest_exclusions(model, images, target=before + 10)
    assert found.reached
    scores = [found.quantized_score, *(step.score for step in found.steps)]
    assert scores[0] == pytest.approx(before, abs=0.01)
    assert scores[-1] >= before + 10
    assert all(score < before + 10 for score in scores[:-1])  # it stops once it is enough
    fresh = quantize_post_training(spoilt(trained), calibration_data=images, exclude=found.exclude)
    assert sqnr(fresh, images) == pytest.approx(scores[-1], abs=1.5)


def test_a_target_out_of_reach_is_said(trained, digits):
    images = digits[0][:16]
    model = quantize_post_training(spoilt(trained), calibration_data=images)
    found = suggest_exclusions(model, images, target=500.0)
    assert not found.reached
    assert "NOT reached" in str(found)
    assert len(suggest_exclusions(model, images, target=500.0, max_patterns=5).exclude) <= 5


def test_a_target_met_already_needs_nothing(trained, digits):
    model = quantize_post_training(spoilt(trained), calibration_data=digits[0][:16])
    found = suggest_exclusions(model, digits[0][:16], target=-100.0)
    assert (found.reached, found.exclude, found.steps) == (True, (), ())


def sqnr(model, images):
    """Of the outputs, worked out from their definition."""
    with context.use_mode(context.FLOAT):
        exact = [np.asarray(value, "float64") for value in tf.nest.flatten(model(images, training=False))]
    rounded = [np.asarray(value, "float64") for value in tf.nest.flatten(model(images, training=False))]
    return -10 * np.log10(np.mean([np.sum((x - y) ** 2) / np.sum(x**2) for x, y in zip(exact, rounded, strict=True)]))


@pytest.mark.parametrize("name", CASES)
def test_every_quantized_call_has_its_row(name):
    model = quantized(CASES[name])
    expected = {key: np.asarray(value) for key, value in enumerate(tf.nest.flatten(model(IMAGES, training=False)))}
    report = analyse(model, IMAGES)
    assert report.images == len(IMAGES)
    assert report.output_sqnr == pytest.approx(sqnr(model, IMAGES), abs=0.05)
    keys = [(row.layer, row.call) for row in report.layers]
    assert len(set(keys)) == len(keys)
    with_kernels = [hook for hook in hooks_of(model) if hook.kernels]
    assert sum(row.kernel is not None for row in report.layers) == sum(hook.call_sites for hook in with_kernels)
    alone = [row.alone for row in report.layers]
    assert alone == sorted(alone)
    assert all(0.5 < row.cosine <= 1 + 1e-6 for row in report.layers)
    text = str(report)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert json.loads(json.dumps(report.to_dict()))["model"] == model.name
    for key, value in enumerate(tf.nest.flatten(model(IMAGES, training=False))):  # the model is left as it was
        np.testing.assert_array_equal(np.asarray(value), expected[key])


def test_what_a_layer_adds_alone_is_measured_at_the_outputs():
    """The last convolution, the only one quantized in another copy of the model, gives the same figure."""
    model = quantized(subclassed)
    (row,) = [row for row in analyse(model, IMAGES).layers if row.layer.endswith("second")]
    only = subclassed()
    only.set_weights([weight.numpy() for weight in model.trainable_weights])
    quantize_aware(only, exclude=["first"], calibration_data=IMAGES)
    assert {hook.layer.name for hook in hooks_of(only)} == {"second"}
    assert sqnr(only, IMAGES) == pytest.approx(row.alone, abs=0.5)


def test_switches_leave_nothing_behind():
    model = quantized(subclassed)
    expected = np.asarray(model(IMAGES))
    attributes = [sorted(vars(quantizer)) for quantizer in quantizers_of(model)]
    with context.use_mode(context.FLOAT):
        exact = np.asarray(model(IMAGES))
    with switching(model) as switches:
        np.testing.assert_array_equal(np.asarray(model(IMAGES)), expected)
        switches.only(())
        np.testing.assert_allclose(np.asarray(model(IMAGES)), exact, atol=1e-6)
        np.testing.assert_allclose(model.predict(IMAGES, verbose=0), exact, atol=1e-5)
        switches.only(switches.sources)
        np.testing.assert_allclose(model.predict(IMAGES, verbose=0), expected, atol=1e-5)
    assert [sorted(vars(quantizer)) for quantizer in quantizers_of(model)] == attributes
    np.testing.assert_array_equal(np.asarray(model(IMAGES)), expected)


def test_bad_input_is_a_clear_error():
    model = quantized(subclassed)
    for function, more in ((analyse, {}), (suggest_exclusions, {"target": 30.0})):
        with pytest.raises(ValueError, match="data is empty"):
            function(model, [], **more)
        with pytest.raises(ValueError, match="not quantized"):
            function(subclassed(), IMAGES, **more)
        with pytest.raises(ValueError, match="unset"):
            function(quantize_aware(subclassed()), IMAGES, **more)
    with pytest.raises(ValueError, match="leave is one of 'float', 'int16'"):
        suggest_exclusions(model, IMAGES, target=30.0, leave="int4")
    with pytest.raises(ValueError, match="largest drop"):
        suggest_exclusions(model, IMAGES, target=-0.1, metric=lambda model: 0.0)
