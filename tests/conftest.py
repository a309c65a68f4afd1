"""Quiet, repeatable tests. What is set here must be set before TensorFlow is imported."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# The same kernels here and in the processes that tests start: an example, once imported, would turn oneDNN's on there.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# One thread a worker: pytest-xdist's workers share the cores, and small tests gain nothing from more.
for pool in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(pool, "1")

import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in every test, whichever ran before it. Imports no Keras that the test did not."""
    random.seed(0)
    np.random.seed(0)
    if "tensorflow" in sys.modules:
        from resnet_backbones.keras_api import keras

        keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def stays_in_its_folder():
    """A test that leaves another working folder behind fails itself, not one that runs after it."""
    before = os.getcwd()
    yield
    after = os.getcwd()
    os.chdir(before)
    assert after == before, f"the test left the working folder at {after}: use contextlib.chdir or monkeypatch.chdir"


@pytest.fixture
def registry_as_it_was(monkeypatch):
    """Forgets what a test registers."""
    import resnet_backbones as rb
    from resnet_backbones import block_registry, registry

    rb.list_backbones()  # loads the catalogue
    monkeypatch.setattr(registry, "_backbones", dict(registry._backbones))
    monkeypatch.setattr(registry, "_aliases", dict(registry._aliases))
    monkeypatch.setattr(block_registry, "_blocks", dict(block_registry._blocks))


@pytest.fixture(scope="session")
def command_files(tmp_path_factory):
    """A folder with the files README's command lines name, and the results of its `export` lines by the file's name."""
    from tests import command_lines

    folder = tmp_path_factory.mktemp("commands")
    return SimpleNamespace(folder=folder, exported=command_lines.write_files(folder))
