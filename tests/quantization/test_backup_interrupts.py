"""An interrupt (Ctrl-C) in training with backups: the backup is whole, and training goes on to the same weights."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones.quantization.backup import TrainingBackup, files, state
from tests.quantization.backup_cases import build, fit_backed_up
from tests.quantization.test_interrupts import calls_of_ours
from tests.support.nets import assert_same


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """How many functions of the library the training calls, and the weights at its end."""
    tf.config.experimental.enable_op_determinism()
    model = build()
    backup = TrainingBackup(tmp_path_factory.mktemp("whole"), save_freq=4)
    return calls_of_ours(lambda: fit_backed_up(model, backup)), model.get_weights()


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(6))
def test_training_goes_on_after_an_interrupt_at_any_call(seed, uninterrupted, tmp_path):
    count, expected = uninterrupted
    model, backup = build(), TrainingBackup(tmp_path / "backup", save_freq=4)
    with pytest.raises(KeyboardInterrupt):
        calls_of_ours(lambda: fit_backed_up(model, backup), random.Random(seed).randrange(1, count))
    for folder in (tmp_path / "backup").glob("backup-*"):
        assert files.read_arrays(folder)  # checks its sum
    model = build()
    fit_backed_up(model, TrainingBackup(tmp_path / "backup", save_freq=4))
    assert_same(model.get_weights(), expected)


class Variable:
    """Takes a value, unless it is the one of an interrupt, once."""

    def __init__(self, interrupts):
        self.value, self.interrupts = 0.0, interrupts

    def numpy(self):
        return self.value

    def assign(self, value):
        self.value = float(value)
        if self.interrupts:
            self.interrupts = False
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", range(4))
def test_an_interrupt_while_variables_are_restored_puts_all_back(at):
    groups = {
        "model": [Variable(at == place) for place in (0, 1)],
        "optimizer": [Variable(at == place) for place in (2, 3)],
    }
    saved = {name: [np.float32(1), np.float32(2)] for name in groups}
    with pytest.raises(KeyboardInterrupt):
        state.set_values(groups, saved)
    assert [variable.value for group in groups.values() for variable in group] == [0.0] * 4
    state.set_values(groups, saved)
    assert [variable.value for group in groups.values() for variable in group] == [1.0, 2.0] * 2
