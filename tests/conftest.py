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
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

TESTS = Path(__file__).parent
WITH_TF_KERAS = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")

# What touches no Keras, or does the same whichever runs: tested with Keras 3 alone. A file that is named on pytest's
# command line runs with tf_keras too.
KERAS_FREE = {
    "export/tensorrt/test_build.py",
    "export/tensorrt/test_check.py",
    "quantization/test_analysis_detector.py",
    "runtime",
    "cli/test_benchmark.py",
    "cli/test_compare.py",
    "cli/test_documented.py",
    "cli/test_predict.py",
    "cli/test_streams.py",
    "cli/test_wrong_values.py",
    "examples",
    "test_house.py",
    "_util/test_files.py",
    "_util/test_text.py",
    "test_missing_packages.py",
    "test_packaging.py",
    "test_project_files.py",
    "backbones/test_plugin_package.py",
    "backbones/test_spec.py",
    "weights/test_checkpoints.py",
    "weights/test_download.py",
    "weights/test_hub.py",
}
# What depends little on which Keras runs: of a test of four or more cases each takes one half. The other halves are
# marked `exhaustive`; `make test-targets` runs them.
HALVED = {
    "adapters",
    "export",
    "quantization",
    "backbones/test_catalogue.py",
    "_util/test_files_written.py",
    "backbones/test_mobilenet.py",
    "backbones/test_resnet_kin.py",
    "test_saved_models.py",
    "keras_compat/test_training_mode.py",
    "weights",
}


def pytest_ignore_collect(collection_path):
    """With tf_keras, passes over :data:`KERAS_FREE`."""
    return (WITH_TF_KERAS and collection_path.relative_to(TESTS).as_posix() in KERAS_FREE) or None


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Marks the cases that the other Keras takes, always the same."""
    cases = {}
    for item in items:
        path = item.path.relative_to(TESTS)
        places = {path.as_posix(), path.parts[0]}
        for_one_keras = places & KERAS_FREE or item.get_closest_marker("skipif")
        if places & HALVED and not for_one_keras and hasattr(item, "callspec"):
            cases.setdefault((path, item.originalname), []).append(item)
    for of_one_test in cases.values():
        if len(of_one_test) >= 4:
            random.Random(0).shuffle(of_one_test)
            half = len(of_one_test) // 2
            for item in of_one_test[:half] if WITH_TF_KERAS else of_one_test[half:]:
                item.add_marker("exhaustive")


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in every test, whichever ran before it. Imports no Keras that the test did not."""
    random.seed(0)
    np.random.seed(0)
    if "tensorflow" in sys.modules:
        from resnet_backbones.keras_compat import keras

        keras.utils.set_random_seed(0)


@pytest.fixture(name="random")
def generator():
    """A generator of random numbers of the test's own: one that tests share would give each what the others left."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def stays_in_its_folder():
    """A test that leaves another working folder behind fails itself, not one that runs after it."""
    before = os.getcwd()
    yield
    after = os.getcwd()
    os.chdir(before)
    assert after == before, f"the test left the working folder at {after}: use contextlib.chdir or monkeypatch.chdir"


@pytest.fixture
def registry_as_it_was():
    """Forgets what a test registers."""
    from resnet_backbones.backbones import block_registry, registry

    tables = registry._backbones, registry._aliases, block_registry._blocks
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


@pytest.fixture(scope="session")
def command_files(tmp_path_factory):
    """A folder with the files README's command lines name, and the results of its `export` lines by the file's name."""
    from tests.cli import command_lines

    folder = tmp_path_factory.mktemp("commands")
    return SimpleNamespace(folder=folder, exported=command_lines.write_files(folder))
