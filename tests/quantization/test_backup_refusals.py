"""Backups that cannot be used are refused with a reason, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import Scheme
from resnet_backbones.quantization.backup import ResumePoint, TrainingBackup
from resnet_backbones.quantization.backup import files as backup_files
from tests.quantization.backup_cases import (
    IMAGES,
    LABELS,
    STEPS,
    InterruptAt,
    build,
    fit_backed_up,
    interrupted,
    restore,
)
from tests.support.nets import assert_same
from tests.support.training import every_value

OTHERS = {
    "another width": ({"filters": 7}, "number 0 is 'tiny|number 0 is 'stem_conv"),
    "another scheme": ({"scheme": Scheme("other", symmetric_activations=True)}, "quantized with 'edge_int8'.*'other'"),
    "float": ({"scheme": None}, "this model is a float model"),
    "another optimizer": ({"optimizer": "sgd"}, "trained with Adam.*compiled with SGD"),
    "other bits": ({"scheme": Scheme("edge_int8", kernel_bits=4)}, "other bits"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_backup_of_another_model_is_refused_and_nothing_is_lost(other, tmp_path):
    arguments, message = OTHERS[other]
    interrupted(build(), tmp_path, 1, 0)
    model = build(**arguments)
    values = every_value(model)[: len(model.variables)]
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        restore(model, tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "delete" in str(error.value)
    assert contents(tmp_path) == before
    assert_same(every_value(model)[: len(values)], values)


def contents(directory):
    return {path.relative_to(directory): path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()}


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "cut weights": ("variables.npz", lambda path: path.write_bytes(path.read_bytes()[:-500])),
    "a bit of the weights": ("variables.npz", flip),
    "no weights": ("variables.npz", Path.unlink),
    "a cut description": ("state.json", lambda path: path.write_bytes(path.read_bytes()[:-50])),
    "an empty description": ("state.json", lambda path: path.write_bytes(b"{}")),
    "no description": ("state.json", Path.unlink),
}


def test_a_damaged_backup_is_an_error_that_changes_nothing(tmp_path):
    interrupted(build(), tmp_path, 1, 0)
    (folder,) = tmp_path.iterdir()
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    model = build(1)
    values = every_value(model)[: len(model.variables)]
    for name, damage in DAMAGES.values():
        for file, data in whole.items():
            (folder / file).write_bytes(data)
        damage(folder / name)
        before = contents(tmp_path)
        with pytest.raises(ValueError, match="is damaged.*delete.*undamaged copy") as error:
            restore(model, tmp_path)
        assert str(folder) in str(error.value)
        assert contents(tmp_path) == before
        assert_same(every_value(model)[: len(values)], values)


def test_a_backup_of_another_version_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(backup_files, "_FORMAT", 99)
    interrupted(build(scheme=None), tmp_path, 1, 0)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 99"):
        _ = TrainingBackup(tmp_path).resume_point


def test_data_that_ends_before_the_step_to_go_on_from_is_refused(tmp_path):
    model = interrupted(build(), tmp_path, 1, 4, save_freq=2)
    backup = TrainingBackup(tmp_path, 2)
    with pytest.raises(ValueError, match="2 steps further in epoch 1 than the data reaches"):
        model.fit(IMAGES[:8], LABELS[:8], batch_size=4, epochs=3, verbose=0, callbacks=[backup])
    assert backup.resume_point == ResumePoint(1, 4)
    watch = InterruptAt()  # the model trains on as it did before
    model.fit(IMAGES, LABELS, batch_size=4, verbose=0, callbacks=[watch])
    assert watch.trained == STEPS


def test_listed_before_the_schedule_it_says_that_it_must_be_last(tmp_path):
    for save_freq in ("epoch", 2):
        backup = TrainingBackup(tmp_path, save_freq)
        with pytest.raises(ValueError, match="list TrainingBackup last"):
            build().fit(IMAGES, LABELS, verbose=0, batch_size=4, callbacks=[backup, rb.QuantizationSchedule()])
        assert backup.resume_point == ResumePoint(0, 0)


def test_a_model_not_built_or_not_compiled_is_refused(tmp_path):
    class Lazy(keras.Model):
        def call(self, inputs):
            return inputs

    lazy = Lazy()
    lazy.compile("sgd", "mse")
    compiled_without_optimizer = keras.Model((image := keras.layers.Input((2,))), image)
    for model, message in ((lazy, "built model"), (compiled_without_optimizer, "compile the model")):
        backup = TrainingBackup(tmp_path)
        backup.set_model(model)
        with pytest.raises(ValueError, match=message):
            backup.on_train_begin()


@pytest.mark.parametrize("save_freq", [0, -2, 1.5, "batch", True])
def test_what_is_no_frequency_is_refused(save_freq, tmp_path):
    with pytest.raises(ValueError, match="save_freq"):
        TrainingBackup(tmp_path, save_freq)


def test_a_directory_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="Cannot write a backup to .*file/backup"):
        fit_backed_up(build(scheme=None), TrainingBackup(tmp_path / "file" / "backup"))
