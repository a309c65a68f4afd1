"""What the schedule freezes really stops, in a train step that is traced once."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_api import keras
from resnet_backbones.quantization import quantizers_of


class Recorder(keras.callbacks.Callback):
    """Statistics and ranges at the end of each epoch."""

    def on_train_begin(self, logs=None):
        self.statistics, self.ranges, self.scales = [], [], []

    def on_epoch_end(self, epoch, logs=None):
        norm = self.model.get_layer("stem_bn1")
        self.statistics.append((norm.moving_mean.numpy(), norm.moving_variance.numpy()))
        self.scales.append(norm.gamma.numpy())
        self.ranges.append([q.range() for q in quantizers_of(self.model)])


def test_statistics_stop_first_then_ranges_while_weights_go_on(classifier, images):
    rb.quantize_aware(classifier, calibration_data=images)
    recorder = Recorder()
    schedule = rb.QuantizationSchedule(freeze_batch_norm_epoch=1, freeze_ranges_epoch=3)
    labels = np.array([0, 1, 2, 0])
    classifier.fit(images, labels, epochs=5, verbose=0, callbacks=[schedule, recorder])
    means = [mean for mean, _ in recorder.statistics]
    assert np.abs(means[0]).max() > 0  # moved in the first epoch
    for later in recorder.statistics[1:]:
        np.testing.assert_array_equal(later, recorder.statistics[0])
    assert recorder.ranges[0] != recorder.ranges[1] != recorder.ranges[2]
    assert recorder.ranges[2] == recorder.ranges[3] == recorder.ranges[4]
    assert all(np.any(a != b) for a, b in zip(recorder.scales, recorder.scales[1:], strict=False))


def test_without_freezing_everything_moves(classifier, images):
    rb.quantize_aware(classifier, calibration_data=images)
    recorder = Recorder()
    schedule = rb.QuantizationSchedule(freeze_batch_norm_epoch=None, freeze_ranges_epoch=None)
    classifier.fit(images, np.array([0, 1, 2, 0]), epochs=3, verbose=0, callbacks=[schedule, recorder])
    assert all(np.any(a[0] != b[0]) for a, b in zip(recorder.statistics, recorder.statistics[1:], strict=False))
    assert recorder.ranges[0] != recorder.ranges[1] != recorder.ranges[2]


def test_a_frozen_batch_norm_normalises_as_in_inference(classifier, images):
    rb.quantize_aware(classifier, calibration_data=images)
    schedule = rb.QuantizationSchedule(freeze_batch_norm_epoch=0, freeze_ranges_epoch=0)
    schedule.set_model(classifier)
    schedule.on_epoch_begin(0)
    in_training = classifier(images, training=True).numpy()
    np.testing.assert_allclose(in_training, classifier(images, training=False).numpy(), atol=1e-6)


def test_a_float_model_has_no_schedule(classifier, images):
    with pytest.raises(ValueError, match="quantize_aware"):
        classifier.fit(images, np.zeros(4), verbose=0, callbacks=[rb.QuantizationSchedule()])


def test_negative_epochs_are_refused():
    with pytest.raises(ValueError, match="freeze_ranges_epoch"):
        rb.QuantizationSchedule(freeze_ranges_epoch=-1)
