"""Backups on disk: numbers come back as they were, and a killed process leaves no half of one."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

from resnet_backbones.quantization.backup import files as backup_files


def test_numbers_numpy_does_not_know_and_single_numbers_come_back_as_they_were(tmp_path):
    arrays = [np.array([1.5, -2.0], tf.bfloat16.as_numpy_dtype), np.array(3.0, tf.bfloat16.as_numpy_dtype), np.array(7)]
    state = {"variables": {"model": [["a", list(array.shape), array.dtype.name] for array in arrays]}}
    folder = backup_files.write_backup(tmp_path, state, {"model": arrays})
    for array, expected in zip(backup_files.read_arrays(folder)["model"], arrays, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


SAVE_WITHOUT_END = """
import importlib.util, pathlib, sys
import numpy as np

specification = importlib.util.spec_from_file_location("backup_files", sys.argv[1])  # without TensorFlow
files = importlib.util.module_from_spec(specification)
specification.loader.exec_module(files)
directory = pathlib.Path(sys.argv[2])
folder = files.newest_backup(directory)
number = files.read_state(folder)["number"] if folder else 0
files.remove_leftovers(directory)
while True:
    number += 1
    array = np.full(50_000, number)
    state = {"number": number, "variables": {"model": [["a", [50_000], "int64"]]}}
    files.write_backup(directory, state, {"model": [array]})
    print(number, flush=True)
"""


def test_killed_while_saving_the_old_backup_or_the_new_one_is_there_whole(tmp_path):
    last, leftovers = 0, 0
    for attempt in range(12):
        command = [sys.executable, "-c", SAVE_WITHOUT_END, backup_files.__file__, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            written = [int(process.stdout.readline()) for _ in range(2)]
            time.sleep(0.0017 * attempt)
            assert process.poll() is None
            process.kill()
        leftovers += len(list(tmp_path.iterdir())) > 1
        folder = backup_files.newest_backup(tmp_path)
        number = backup_files.read_state(folder)["number"]
        np.testing.assert_array_equal(backup_files.read_arrays(folder)["model"][0], np.full(50_000, number))
        assert number >= written[-1] > last
        last = number
    assert leftovers > 0  # some were killed while saving
    backup_files.remove_backups(tmp_path)
    assert not tmp_path.exists()
