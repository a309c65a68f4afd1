"""A KerasCV detector in training, killed by the system, goes on in a new process and ends as undisturbed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

TRAIN = """
import os, signal, sys
import numpy as np
import tensorflow as tf
import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from resnet_backbones.quantization.backup import TrainingBackup
from digits import make_scenes

tf.config.experimental.enable_op_determinism()
keras.utils.set_random_seed(1)
directory, dies = sys.argv[1], sys.argv[2] == "dies"
scenes = make_scenes(6, "train")
pictures = tf.image.resize(scenes.images, (64, 64)).numpy()
labels = {"boxes": np.where(scenes.boxes < 0, -1, scenes.boxes * 64 / 96), "classes": scenes.classes}


def one_epoch(epoch):
    data = tf.data.Dataset.from_tensor_slices((pictures, labels))
    return data.shuffle(6, seed=epoch, reshuffle_each_iteration=False).batch(2)


class Die(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)


spec = rb.ResNetSpec(block="basic", depths=(1, 1, 1, 1), widths=(8, 16, 24, 32), stem_width=8)
backbone = rb.create_backbone(spec, input_shape=(64, 64, 3))
detector = rb.adapters.keras_cv.retinanet(backbone, num_classes=10, bounding_box_format="xywh", head_depth=1)
rb.quantize_aware(detector, calibration_data=pictures)
keyword = {"jit_compile": False} if IS_KERAS_3 else {}
optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=10.0)
detector.compile(box_loss="smoothl1", classification_loss="focal", optimizer=optimizer, **keyword)
optimizer.build(detector.trainable_variables)
variables = [*detector.variables, *optimizer.variables]
start = [variable.numpy() for variable in variables]


def fit(directory, *others):
    backup = TrainingBackup(directory, save_freq=2)
    print("from", tuple(backup.resume_point), flush=True)
    schedule = rb.QuantizationSchedule(freeze_batch_norm_step=4, freeze_ranges_step=5)
    detector.fit(backup.data(one_epoch), epochs=2, verbose=0, callbacks=[schedule, *others, backup])
    return [variable.numpy() for variable in variables]


resumed = fit(directory, *([Die()] if dies else []))
for variable, value in zip(variables, start, strict=True):
    variable.assign(value)
for value, expected in zip(resumed, fit(directory + "-undisturbed"), strict=True):
    np.testing.assert_array_equal(value, expected)
moved = sum(np.any(value != before) for value, before in zip(resumed, start, strict=True))
print("the same", len(resumed), "values,", moved, "of them trained")
"""


def train(*arguments):
    paths = f"{EXAMPLES}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, "-c", TRAIN, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.exhaustive  # a minute
def test_a_killed_quantized_detector_ends_with_the_very_same_values(tmp_path):
    killed = train(tmp_path / "backup", "dies")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    assert "from (0, 0)" in killed.stdout
    resumed = train(tmp_path / "backup", "goes on")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "from (1, 2)" in resumed.stdout
    values, trained = map(int, re.search(r"the same (\d+) values, (\d+) of them", resumed.stdout).groups())
    assert trained > values // 2
