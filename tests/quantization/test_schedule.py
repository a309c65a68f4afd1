"""What the schedule freezes really stops, in a train step that is traced once; and it goes on where the model is."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import quantizers_of
from resnet_backbones.quantization.schedule_state import schedule_states_of
from tests.support import training
from tests.support.training import digits, tiny_classifier

IMAGES, LABELS = digits(4)
fit = functools.partial(training.fit, (IMAGES, LABELS), batch_size=4)


class Recorder(keras.callbacks.Callback):
    """Statistics and ranges at the end of each epoch, or each step."""

    def __init__(self, each="epoch"):
        super().__init__()
        self.each = each
        self.statistics, self.ranges, self.scales = [], [], []

    def on_epoch_end(self, epoch, logs=None):
        if self.each == "epoch":
            self.record()

    def on_train_batch_end(self, batch, logs=None):
        if self.each == "step":
            self.record()

    def record(self):
        norm = self.model.get_layer("stem_bn")
        self.statistics.append((norm.moving_mean.numpy(), norm.moving_variance.numpy()))
        self.scales.append(norm.gamma.numpy())
        self.ranges.append([q.range() for q in quantizers_of(self.model)])

    def last_change(self, values):
        """How many records it took until a value changed no more."""
        pairs = itertools.pairwise(values)
        return 1 + max((i for i, (a, b) in enumerate(pairs, 1) if np.any(np.array(a) != np.array(b))), default=0)


@pytest.fixture
def quantized():
    return rb.quantize_aware(tiny_classifier(), calibration_data=IMAGES)


def counted(model):
    (state,) = schedule_states_of(model)
    return int(state.epochs.numpy()), int(state.steps.numpy())


def observing(model):
    """The one value that the switches of all observed ranges have."""
    (value,) = {float(q.observing.numpy()) for q in quantizers_of(model) if q.fixed_range is None}
    return bool(value)


def test_statistics_stop_first_then_ranges_while_weights_go_on(quantized):
    recorder = Recorder()
    schedule = rb.QuantizationSchedule(freeze_batch_norm_epoch=1, freeze_ranges_epoch=3)
    fit(quantized, schedule, recorder, epochs=5)
    means = [mean for mean, _ in recorder.statistics]
    assert np.abs(means[0]).max() > 0  # moved in the first epoch
    assert recorder.last_change(recorder.statistics) == 1
    assert recorder.ranges[0] != recorder.ranges[1] != recorder.ranges[2]
    assert recorder.last_change(recorder.ranges) == 3
    assert all(np.any(a != b) for a, b in zip(recorder.scales, recorder.scales[1:], strict=False))


def test_in_steps_both_stop_within_an_epoch(quantized):
    recorder = Recorder("step")
    schedule = rb.QuantizationSchedule(freeze_batch_norm_step=3, freeze_ranges_step=5)
    fit(quantized, schedule, recorder, batch_size=1, epochs=2)
    assert recorder.last_change(recorder.statistics) == 3
    assert recorder.last_change(recorder.ranges) == 5
    assert len(recorder.ranges) == 8
    assert np.any(recorder.scales[-1] != recorder.scales[-2])
    assert counted(quantized) == (2, 8)


def test_a_step_takes_the_place_of_the_default_epoch_for_its_own_switch_alone():
    schedule = rb.QuantizationSchedule(freeze_ranges_step=7)
    assert (schedule.freeze_batch_norm_epoch, schedule.freeze_batch_norm_step) == (1, None)
    assert (schedule.freeze_ranges_epoch, schedule.freeze_ranges_step) == (None, 7)


def test_without_freezing_everything_moves(quantized):
    recorder = Recorder()
    schedule = rb.QuantizationSchedule(freeze_batch_norm_epoch=None, freeze_ranges_epoch=None)
    fit(quantized, schedule, recorder, epochs=3)
    assert recorder.last_change(recorder.statistics) == 3
    assert recorder.last_change(recorder.ranges) == 3


def test_a_frozen_batch_norm_normalises_as_in_inference(quantized):
    schedule = rb.QuantizationSchedule(freeze_batch_norm_epoch=0, freeze_ranges_epoch=0)
    schedule.set_model(quantized)
    schedule.on_train_begin()
    schedule.on_epoch_begin(0)
    in_training = quantized(IMAGES, training=True).numpy()
    np.testing.assert_allclose(in_training, quantized(IMAGES, training=False).numpy(), atol=1e-6)


@pytest.mark.parametrize("second", [{"epochs": 2}, {"initial_epoch": 2, "epochs": 4}])
def test_a_second_fit_goes_on_whether_it_numbers_its_epochs_anew_or_not(second, quantized):
    recorder = Recorder()
    fit(quantized, rb.QuantizationSchedule(1, 3), recorder, epochs=2)
    assert observing(quantized)
    fit(quantized, rb.QuantizationSchedule(1, 3), recorder, **second)
    assert recorder.last_change(recorder.statistics) == 1
    assert recorder.last_change(recorder.ranges) == 3
    assert not observing(quantized)
    assert counted(quantized) == (4, 4)


def test_a_loop_of_fits_of_one_epoch_is_a_schedule_too(quantized):
    seen = []
    for _ in range(4):
        fit(quantized, rb.QuantizationSchedule(1, 2), epochs=1)
        seen.append(observing(quantized))
    assert seen == [True, True, False, False]


def test_steps_are_counted_over_fits_and_an_epoch_reached_early_does_not_go_back(quantized):
    schedule = rb.QuantizationSchedule(None, freeze_ranges_step=3)
    seen = []
    for _ in range(3):
        fit(quantized, schedule, batch_size=2, epochs=1)
        seen.append(observing(quantized))
    assert seen == [True, False, False]
    assert counted(quantized) == (3, 6)


def test_a_saved_model_goes_on_with_the_schedule(quantized, tmp_path):
    fit(quantized, rb.QuantizationSchedule(1, 3), batch_size=2, epochs=2)
    quantized.save(tmp_path / "it.keras")
    quantized.save_weights(tmp_path / "it.weights.h5")
    loaded = rb.load_model(tmp_path / "it.keras")
    assert counted(loaded) == (2, 4)
    fit(loaded, rb.QuantizationSchedule(1, 3), epochs=2)
    assert not observing(loaded)
    rb.QuantizationSchedule.restart(quantized)
    assert counted(quantized) == (0, 0)
    quantized.load_weights(tmp_path / "it.weights.h5")
    assert counted(quantized) == (2, 4)


def test_restart_lets_everything_move_again(quantized):
    fit(quantized, rb.QuantizationSchedule(0, 0), epochs=1)
    assert not observing(quantized)
    rb.QuantizationSchedule.restart(quantized)
    assert observing(quantized)
    recorder = Recorder()
    fit(quantized, rb.QuantizationSchedule(1, 2), recorder, epochs=3)
    assert recorder.last_change(recorder.ranges) == 2


def test_the_counters_are_no_part_of_the_graph_and_come_once(quantized):
    assert len(schedule_states_of(rb.quantize_aware(quantized))) == 1
    assert not any("schedule_state" in layer.name for layer in quantized.layers)


def test_a_float_model_has_no_schedule():
    classifier = tiny_classifier()
    with pytest.raises(ValueError, match="quantize_aware"):
        fit(classifier, rb.QuantizationSchedule())
    with pytest.raises(ValueError, match="quantize_aware"):
        rb.QuantizationSchedule.restart(classifier)


@pytest.mark.parametrize("name", ["freeze_ranges_epoch", "freeze_batch_norm_step"])
@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_what_is_no_count_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        rb.QuantizationSchedule(**{name: value})


def test_an_epoch_and_a_step_for_one_switch_are_refused():
    with pytest.raises(ValueError, match="freeze_ranges_epoch or freeze_ranges_step, not both"):
        rb.QuantizationSchedule(freeze_ranges_epoch=2, freeze_ranges_step=100)
