"""A tiny training, interrupted and backed up, for the tests of backups."""

from __future__ import annotations

import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.backup import TrainingBackup
from tests.support.training import digits, tiny_classifier

IMAGES, LABELS = digits(24)
STEPS, EPOCHS = 6, 3


class Interrupted(Exception):
    pass


class InterruptAt(keras.callbacks.Callback):
    """Raises after a step, as if the process died there, and notes which epochs and steps were trained."""

    def __init__(self, epoch=None, step=None):
        super().__init__()
        self.at, self.epochs, self.trained = (epoch, step), [], 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self.trained += bool(logs)
        if (self.epochs[-1], batch) == self.at:
            raise Interrupted


def one_epoch(epoch):
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    return data.shuffle(len(IMAGES), seed=epoch, reshuffle_each_iteration=False).batch(4)


def build(seed=0, scheme="edge_int8", **arguments):
    keras.utils.set_random_seed(seed)
    model = tiny_classifier(**{"optimizer": keras.optimizers.Adam(0.01), **arguments})
    return rb.quantize_aware(model, scheme, calibration_data=IMAGES[:8]) if scheme else model


def fit_backed_up(model, backup, *callbacks, **arguments):
    schedule = [rb.QuantizationSchedule(freeze_batch_norm_step=8, freeze_ranges_epoch=2)]
    quantized = rb.quantization.quantization_of(model) is not None
    callbacks = [*(schedule if quantized else []), *callbacks, backup]
    return model.fit(backup.data(one_epoch), epochs=EPOCHS, verbose=0, callbacks=callbacks, **arguments)


def interrupted(model, directory, epoch, step, save_freq="epoch"):
    with pytest.raises(Interrupted):
        fit_backed_up(model, TrainingBackup(directory, save_freq), InterruptAt(epoch, step))
    return model


def restore(model, directory):
    """What ``fit`` does with a backup, before any training."""
    backup = TrainingBackup(directory)
    backup.set_model(model)
    backup.on_train_begin()
