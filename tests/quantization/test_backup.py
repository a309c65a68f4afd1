"""Training interrupted anywhere goes on and ends as if it had not been."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from resnet_backbones.keras_compat import IS_KERAS_3, keras
from resnet_backbones.quantization.backup import ResumePoint, TrainingBackup
from tests.quantization.backup_cases import (
    EPOCHS,
    IMAGES,
    LABELS,
    STEPS,
    InterruptAt,
    Interrupted,
    build,
    fit_backed_up,
    interrupted,
    one_epoch,
)
from tests.support.nets import assert_same
from tests.support.training import every_value, tiny_classifier


@contextlib.contextmanager
def savable_random_numbers():
    """tf_keras' dropout draws from numbers whose state can be saved; Keras 3's always does."""
    if IS_KERAS_3:
        yield
        return
    keras.backend.experimental.enable_tf_random_generator()
    try:
        yield
    finally:
        keras.backend.experimental.disable_tf_random_generator()


CASES = {
    "quantized, by epoch": ({}, "epoch", (1, 3), ResumePoint(1, 0)),
    "quantized, by step": ({}, 2, (1, 4), ResumePoint(1, 4)),
    "float, by step, momentum": (
        {"scheme": None, "optimizer": keras.optimizers.SGD(0.1, momentum=0.9)}, 5, (2, 5), ResumePoint(2, 5),
    ),
    "the last step of an epoch": ({"scheme": None}, 1, (1, 5), ResumePoint(1, 5)),
    "dropout": ({"scheme": None, "dropout": 0.5}, 4, (2, 5), ResumePoint(2, 4)),
    "two steps at once": ({"scheme": None, "steps_per_execution": 2}, 2, (1, 5), ResumePoint(1, 4)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_interrupted_training_ends_with_the_very_same_values(case, tmp_path):
    arguments, save_freq, at, point = CASES[case]

    def model(seed):
        optimizer = arguments.get("optimizer")
        fresh = {"optimizer": type(optimizer).from_config(optimizer.get_config())} if optimizer else {}
        return build(seed, **{**arguments, **fresh})

    with savable_random_numbers():
        undisturbed = model(0)
        fit_backed_up(undisturbed, TrainingBackup(tmp_path / "undisturbed"))
        interrupted(model(0), tmp_path / "backup", *at, save_freq=save_freq)
        backup, watch = TrainingBackup(tmp_path / "backup", save_freq), InterruptAt()
        assert backup.resume_point == point
        resumed = model(1)  # other weights, if nothing restored them
        fit_backed_up(resumed, backup, watch)
    assert_same(every_value(resumed), every_value(undisturbed))
    assert watch.epochs == list(range(point.epoch, EPOCHS))
    together = arguments.get("steps_per_execution", 1)
    assert watch.trained * together == STEPS * (EPOCHS - point.epoch) - point.step
    assert not (tmp_path / "backup").exists()


def test_python_and_numpy_draw_on_where_they_were(tmp_path):
    class Draw(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.drawn = np.random.rand(2).tolist()

    undisturbed, resumed = Draw(), Draw()
    fit_backed_up(build(scheme=None), TrainingBackup(tmp_path / "undisturbed"), undisturbed)
    with pytest.raises(Interrupted):
        fit_backed_up(build(scheme=None), TrainingBackup(tmp_path / "backup"), Draw(), InterruptAt(2, 3))
    fit_backed_up(build(7, scheme=None), TrainingBackup(tmp_path / "backup"), resumed)
    assert resumed.drawn == undisturbed.drawn


def test_a_fit_after_a_resumed_one_begins_at_its_own_epoch(tmp_path):
    model = interrupted(build(scheme=None), tmp_path, 1, 3)
    fit_backed_up(model, TrainingBackup(tmp_path))
    watch = InterruptAt()
    model.fit(IMAGES, LABELS, batch_size=4, epochs=2, verbose=0, callbacks=[watch])
    assert watch.epochs == [0, 1]
    assert watch.trained == 2 * STEPS


def test_only_backups_are_removed_at_the_end(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".writing-leftover").mkdir()
    (tmp_path / ".writing-leftover" / "variables.npz").write_bytes(b"half")
    fit_backed_up(build(scheme=None), TrainingBackup(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_kept_backup_of_finished_training_ends_the_next_fit_at_once(tmp_path):
    first = build()
    fit_backed_up(first, TrainingBackup(tmp_path, delete_checkpoint=False))
    assert len(list(tmp_path.iterdir())) == 1
    again, watch = build(5), InterruptAt()
    fit_backed_up(again, TrainingBackup(tmp_path, delete_checkpoint=False), watch)
    assert watch.epochs == []
    assert_same(every_value(again), every_value(first))


def test_batches_of_an_epoch_have_its_order_and_that_of_no_other(tmp_path):
    seen = []

    class Note(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(np.concatenate([labels.numpy() for _, labels in data]))

    backup = TrainingBackup(tmp_path)
    keras.utils.set_random_seed(0)  # a global seed of 0 is the one that TensorFlow takes no tensor beside
    data = backup.data(one_epoch)
    assert int(data.cardinality()) == STEPS
    tiny_classifier().fit(data, epochs=2, verbose=0, callbacks=[backup, Note()])
    expected = [np.concatenate([labels.numpy() for _, labels in one_epoch(epoch)]) for epoch in (0, 1)]
    assert sorted(seen[0]) == sorted(expected[0])
    assert np.any(seen[0] != seen[1])
    again = TrainingBackup(tmp_path).data(one_epoch)
    np.testing.assert_array_equal(np.concatenate([labels.numpy() for _, labels in again]), seen[0])


@pytest.mark.skipif(IS_KERAS_3, reason="Keras 3 saves the random numbers of every layer")
def test_layers_whose_random_numbers_cannot_be_saved_are_named(tmp_path):
    with pytest.warns(UserWarning, match="^dropout: .*enable_tf_random_generator"):
        fit_backed_up(build(scheme=None, dropout=0.3), TrainingBackup(tmp_path))


@pytest.mark.skipif(IS_KERAS_3, reason="Keras 3 has no legacy optimizers")
def test_legacy_optimizers_are_backed_up_with_their_settings(tmp_path):
    def model(rate):
        return build(optimizer=keras.optimizers.legacy.SGD(rate, momentum=0.9))

    undisturbed = model(0.1)
    fit_backed_up(undisturbed, TrainingBackup(tmp_path / "undisturbed"))
    interrupted(model(0.1), tmp_path / "backup", 1, 3, save_freq=2)
    resumed = model(0.5)
    fit_backed_up(resumed, TrainingBackup(tmp_path / "backup", 2))
    assert_same(every_value(resumed), every_value(undisturbed))
    assert float(resumed.optimizer.learning_rate.numpy()) == pytest.approx(0.1)
