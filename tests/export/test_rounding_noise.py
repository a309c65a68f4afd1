"""What a file may differ by where the Keras model does not come near to itself; a damaged file still fails."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.export import formats
from resnet_backbones.export.litert import emitter as litert
from resnet_backbones.export.litert.flatbuffer import read_model, write_model
from resnet_backbones.export.report import verify
from resnet_backbones.export.report.parity import (
    COSINE,
    LEAST_COSINE,
    PART_OF_ITS_OWN,
    TIMES_ITS_OWN,
    WITHIN_TWO_STEPS,
    OutputParity,
)
from resnet_backbones.export.request import ExportRequest
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import rounding_noise as noise
from tests.support.nets import images
from tests.sweeps.rules import wanted_of, within_a_step_of_itself

REQUEST = ExportRequest("litert", "int8")
DEPTH = 20
FACTS = {"task": {"name": "tensors"}, "class_names": None}


def parity(share, cosine, *own):
    """A file's output, and (share, cosine) of runs of the model against itself."""
    runs = tuple(OutputParity("box", 100, 9.0, 0.5, *one) for one in own)
    return OutputParity("box", 100, 9.0, 0.5, share, cosine, runs)


@pytest.fixture(scope="module")
def batch():
    return images(4, 32, 32, 3)


@pytest.fixture(scope="module")
def deep(batch):
    """Convolutions one behind the other, each with values of the same size."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = image = layers.Input((32, 32, 3))
    for index in range(DEPTH):
        x = layers.Conv2D(32, 3, padding="same", use_bias=False, name=f"conv{index}")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.0)(x))
    model = keras.Model(image, layers.Conv2D(8, 1, name="head")(x), name="deep")
    model(batch, training=True)  # sets the batch norms' statistics
    return rb.quantize_post_training(model, calibration_data=batch)


@pytest.fixture(scope="module")
def emitted(deep):
    return litert.emit(deep, REQUEST)


def compared(model, emitted, batch, path):
    """Parity of the file that would be written."""
    litert.write(emitted, {**FACTS, **emitted.metadata}, path)
    return verify.Verification(model, formats.FORMATS["litert"], REQUEST, emitted, path).outputs([batch])


@pytest.fixture
def much_noise(monkeypatch):
    """So much that it does not depend on the machine which of the two deviates more."""
    monkeypatch.setattr(noise, "NUDGE", 1e-3)


def test_a_file_as_near_as_the_model_is_to_itself_passes(deep, emitted, batch, much_noise, tmp_path):
    (entry,) = compared(deep, emitted, batch, tmp_path / "deep.tflite")
    own = [run.within_two_steps for run in entry.of_itself]
    assert entry.within_two_steps < WITHIN_TWO_STEPS, "else nothing is tested here"
    assert len(own) == 3
    assert max(own) < WITHIN_TWO_STEPS
    assert entry.failures == []


def test_how_far_runs_part_hardly_depends_on_how_small_the_cause_is(deep, batch, monkeypatch):
    expected = np.asarray(deep(batch, training=False))

    def deviation(largest):
        monkeypatch.setattr(noise, "NUDGE", largest)
        with noise.rounding_noise(seed=0):
            return np.abs(np.asarray(deep(batch, training=False)) - expected).mean()

    found = [deviation(largest) for largest in (1e-3, 1e-1)]
    assert max(found) < 2.0 * min(found), "a hundredth of the cause leaves more than half"
    assert np.array_equal(deep(batch, training=False), expected), "nothing is shifted outside"


def test_it_is_the_same_for_the_same_seed(deep, batch):
    def run(seed):
        with noise.rounding_noise(seed):
            return np.asarray(deep(batch, training=False))

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def without_bias(emitted, place):
    """The same file with the biases of one of its convolutions zeroed."""
    model = read_model(emitted.data)
    graph = model.subgraphs[0]
    operator = [one for one in graph.operators if len(one.inputs) == 3][place]
    buffer = model.buffers[graph.tensors[operator.inputs[2]].buffer]
    buffer.data = np.zeros_like(buffer.data)
    return dataclasses.replace(emitted, data=write_model(model))


@pytest.mark.parametrize("place", [0, DEPTH // 2, DEPTH - 1])
def test_a_convolution_without_its_biases_fails(deep, emitted, batch, tmp_path, place):
    (entry,) = compared(deep, without_bias(emitted, place), batch, tmp_path / "damaged.tflite")
    assert entry.failures


@pytest.fixture(scope="module")
def wide(batch):
    """The same with activations of 16 bits, not so deep."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = image = layers.Input((32, 32, 3))
    for _ in range(6):
        x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.0)(x))
    model = keras.Model(image, layers.Conv2D(8, 1)(x), name="wide")
    model(batch, training=True)
    return rb.quantize_post_training(model, "edge_int16x8", calibration_data=batch)


def with_other_steps(emitted, place, factor):
    """The same file with the steps of the kernel of one of its convolutions multiplied."""
    model = read_model(emitted.data)
    graph = model.subgraphs[0]
    operator = [one for one in graph.operators if len(one.inputs) == 3][place]
    steps = graph.tensors[operator.inputs[1]].quantization
    steps.scale = np.float32(steps.scale) * np.float32(factor)
    return dataclasses.replace(emitted, data=write_model(model))


def test_of_16_bits_a_file_passes_and_one_whose_factors_are_a_little_off_fails(wide, batch, tmp_path):
    request = ExportRequest("litert", "int16x8")
    emitted = litert.emit(wide, request)
    (share,) = within_a_step_of_itself(wide, batch)
    wanted = wanted_of(share)  # as in the sweep of rules
    assert 0.5 < wanted < 0.9, wanted

    def parity_of(emitted):
        litert.write(emitted, {**FACTS, **emitted.metadata}, tmp_path / "wide.tflite")
        row = formats.FORMATS["litert"]
        return verify.Verification(wide, row, request, emitted, tmp_path / "wide.tflite").outputs([batch])[0]

    def within_a_step(emitted):
        litert.write(emitted, {**FACTS, **emitted.metadata}, tmp_path / "wide.tflite")
        (values,) = litert.runner(tmp_path / "wide.tflite", request)(batch).values()
        expected = np.asarray(wide(batch, training=False))
        return np.mean(np.abs(values - expected) <= 1.001 * np.abs(expected).max() / 32767)

    assert parity_of(emitted).failures == []
    assert within_a_step(emitted) >= wanted
    for place in (0, 3, 6):
        off = with_other_steps(emitted, place, 1 + 2**-11)
        assert parity_of(off).failures, place
        assert within_a_step(off) < wanted, place


def test_the_report_says_by_how_much_16_bits_were_moved(wide, batch, tmp_path):
    report = rb.export_model(wide, tmp_path / "wide.tflite", parity_data=batch)
    report.save(tmp_path / "wide.md")
    text = (tmp_path / "wide.md").read_text()
    assert "16-bit values by up to 1/65536 of themselves, too" in text
    assert "at least 50 % as many values within two steps" in text


def test_a_file_that_passes_costs_no_further_runs(batch, tmp_path):
    image = keras.layers.Input((32, 32, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    rb.quantize_post_training(model, calibration_data=batch)
    report = rb.export_model(model, tmp_path / "shallow.tflite", parity_data=batch)
    assert report.passed
    assert report.parity[0].of_itself == ()
    assert "itself" not in str(report)


def test_what_is_wanted_is_the_bar_or_a_multiple_of_the_model_s_own_deviation():
    assert (parity(0.995, 0.9995).within_two_steps_wanted, parity(0.995, 0.9995).cosine_wanted) == (
        WITHIN_TWO_STEPS,
        COSINE,
    )
    exact = parity(0.98, 0.9985, (1.0, 1.0))
    assert (exact.within_two_steps_wanted, exact.cosine_wanted) == (WITHIN_TWO_STEPS, COSINE)
    assert len(exact.failures) == 2
    apart = parity(0.9, 0.997, (0.92, 0.998), (0.88, 0.996))
    assert apart.within_two_steps_wanted == pytest.approx(1 - 0.1 * TIMES_ITS_OWN)
    assert apart.cosine_wanted == pytest.approx(1 - 0.003 * TIMES_ITS_OWN)
    assert apart.failures == []
    few = parity(0.19, 0.9999, (0.38, 1.0), (0.42, 1.0))
    assert few.within_two_steps_wanted == pytest.approx(0.4 * PART_OF_ITS_OWN)
    assert len(few.failures) == 1, "however little the model keeps"
    assert parity(0.5, 0.98, (0.5, 0.95)).cosine_wanted == LEAST_COSINE
    assert len(parity(0.5, 0.98, (0.5, 0.95)).failures) == 1


def test_the_report_shows_it(deep, batch, much_noise, tmp_path):
    report = rb.export_model(deep, tmp_path / "deep.tflite", parity_data=batch)
    report.save(tmp_path / "deep.md")
    assert report.passed
    text = (tmp_path / "deep.md").read_text()
    assert text.count("Keras against itself") == 3
    assert f"{TIMES_ITS_OWN:g} times that is allowed" in text
    assert len(report.to_dict()["parity"][0]["of_itself"]) == 3
