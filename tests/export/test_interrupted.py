"""A full disk, and a process killed in the middle: what was there before is still whole, and nothing half is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest

import resnet_backbones as rb

# Exports a small model to the paths given; with a limit, no file may grow beyond so many bytes (as on a full disk).
EXPORT = """
import resource, signal, sys
from pathlib import Path
import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
limit, mode, *paths = sys.argv[1:]
image = keras.layers.Input((16, 16, 32))
model = keras.Model(image, keras.layers.Conv2D(128, 3, activation="relu")(image))
from resnet_backbones.export import api as exporter  # and with it all that exporting imports
for path in paths:
    exporter.find_format(Path(path), None).emitter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
print("ready", flush=True)
if mode == "forever":
    while True:
        for path in paths:
            rb.export_model(model, path)
failed = []
for path in paths:
    try:
        rb.export_model(model, path)
    except Exception as error:
        failed.append(type(error).__name__)
print(len(failed), *failed)
"""
NAMES = ("m.tflite", "m.keras", "m")


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", EXPORT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def old_ones(folder):
    """What an earlier export left, in words that no export writes."""
    for name in NAMES[:2]:
        (folder / name).write_bytes(b"the old one")
    (folder / "m").mkdir()
    (folder / "m" / "saved_model.pb").write_bytes(b"the old one")


def contents(folder):
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def folder(tmp_path):
    old_ones(tmp_path)
    return tmp_path


def test_a_full_disk_leaves_the_old_ones_whole_and_nothing_else(folder):
    before = contents(folder)
    process = start(20_000, "once", *(folder / name for name in NAMES))
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output.splitlines()[-1].split()[0] == "3", output
    assert contents(folder) == before
    assert sorted(os.listdir(folder)) == sorted(NAMES)


def is_whole(folder, name):
    if name == "m.tflite":
        assert rb.runtime.load(folder / name).input_shape[1:] == (16, 16, 32)
    elif name == "m.keras":
        with zipfile.ZipFile(folder / name) as archive:
            assert archive.testzip() is None
    else:
        assert (folder / name / "assets.extra" / "resnet_backbones.json").exists()
        assert len((folder / name / "saved_model.pb").read_bytes()) > 128 * 32 * 9 * 4


def test_killed_in_the_middle_each_is_the_old_one_or_the_new_one_whole(folder):
    process = start(0, "forever", *(folder / name for name in NAMES))
    try:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        end = time.monotonic() + 300
        while time.monotonic() < end and process.poll() is None:  # stop while something is being written
            started = [entry for entry in os.listdir(folder) if entry.startswith(".")]
            replaced = (folder / "m.tflite").read_bytes() != b"the old one"  # this one is always there, whole
            if started and replaced:
                break
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert started, "it was killed while it wrote"
    for name in NAMES:
        found = contents(folder / name) if (folder / name).is_dir() else {"": (folder / name).read_bytes()}
        if b"the old one" not in found.values():
            is_whole(folder, name)
