"""What older versions wrote still loads and gives the same; what they had is still there, by the same name."""

from __future__ import annotations

import gzip
import importlib
import json
import shutil

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.compatibility import cases
from tests.golden import measure

VERSIONS = sorted(folder.name for folder in cases.FIXTURES.iterdir())
FOLDERS = [cases.FIXTURES / version / cases.KERAS for version in VERSIONS]
WRITTEN = pytest.mark.parametrize(
    ("folder", "facts"), [(path, json.loads((path / "facts.json").read_text())) for path in FOLDERS], ids=VERSIONS
)
NAMES = pytest.mark.parametrize(
    "names", [json.loads((cases.FIXTURES / version / "names.json").read_text()) for version in VERSIONS], ids=VERSIONS
)


def assert_equal(found, expected, *, quantized):
    """To the last bits that CPUs differ in; of a quantized network, to the steps that those move."""
    assert not measure.differences({"outputs": expected}, {"outputs": measure.summary(found)}, quantized=quantized)


@pytest.mark.parametrize("name", ["classifier", "classifier_int8", "activated_int8"])
@WRITTEN
def test_keras_files_give_the_same_outputs(folder, facts, name):
    model = rb.load_model(folder / f"{name}.keras")
    assert_equal(cases.outputs(model, cases.IMAGES), facts["outputs"][name], quantized="int8" in name)
    assert rb.is_quantized(model) == ("int8" in name)
    assert cases.ranges(model) == facts["ranges"].get(name, [])


@pytest.mark.parametrize("name", ["retinanet", "retinanet_int8", "yolo_v8", "yolo_v8_int8"])
@WRITTEN
def test_saved_configurations_of_detectors_build_the_same_model(folder, facts, name):
    rb.load_model(folder / "classifier_int8.keras")  # makes known what saved files mention, as for any file
    text = gzip.decompress((folder / f"{name}.json.gz").read_bytes()).decode()
    model = cases.seeded(keras.saving.deserialize_keras_object(json.loads(text)))
    cases.set_ranges(model, facts["ranges"].get(name, []))
    assert_equal(cases.outputs(model, cases.DETECTOR_IMAGES), facts["outputs"][name], quantized="int8" in name)


@pytest.mark.parametrize("name", ["classifier.tflite", "classifier.onnx"])
@WRITTEN
def test_exported_files_give_the_same_outputs_and_decode(folder, facts, name):
    model = rb.runtime.load(folder / name)
    assert_equal(model.raw(cases.IMAGES), facts["outputs"][name], quantized=True)
    assert set(model.predict(cases.IMAGES[0])[0].names) == set(cases.CLASSES)


@pytest.mark.parametrize("name", ["classifier", *cases.DETECTORS])
@WRITTEN
def test_metadata_keeps_its_keys_and_old_metadata_still_decodes(folder, facts, name, tmp_path):
    model = cases.classifier() if name == "classifier" else cases.DETECTORS[name]()
    images = cases.IMAGES[:1] if name == "classifier" else cases.DETECTOR_IMAGES[:1]
    formats = {"tflite": "litert", "onnx": "onnx"}
    for suffix, format in formats.items() if name != "yolo_v8" else [("tflite", "litert")]:  # whose ONNX takes longest
        path, old = tmp_path / f"{name}.{suffix}", facts["metadata"][f"{name}.{suffix}"]
        rb.export_model(model, path)
        assert cases.keys(old) <= cases.keys(rb.runtime.read_metadata(path))
        now = rb.runtime.load(path).predict(images)[0].to_dict()
        if name == "classifier":
            continue  # its old metadata is an int8 file's, tried above
        path.write_bytes(rb.runtime.append_metadata(path.read_bytes(), old, format))
        assert rb.runtime.load(path).predict(images)[0].to_dict() == now


@WRITTEN
def test_weights_files_keep_their_names(folder, facts, tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    expected = {name: tuple(shape) for name, shape in facts["safetensors"].items()}
    rb.weights.save(cases.classifier(), tmp_path / "now.safetensors")
    with safe_open(tmp_path / "now.safetensors", "numpy") as file:
        assert expected.items() <= {name: file.get_tensor(name).shape for name in file.keys()}.items()  # noqa: SIM118
        assert facts["safetensors_metadata"].keys() <= file.metadata().keys()
    random, model = np.random.default_rng(1), cases.classifier()
    arrays = {name: random.uniform(0, 1, shape).astype("float32") for name, shape in expected.items()}
    save_file(arrays, tmp_path / "old.safetensors", metadata=facts["safetensors_metadata"])
    rb.weights.load(model, tmp_path / "old.safetensors")
    found = sorted(float(np.sum(value)) for value in model.get_weights())
    np.testing.assert_allclose(found, sorted(float(array.sum()) for array in arrays.values()), rtol=1e-6)


@WRITTEN
def test_training_goes_on_from_an_old_backup(folder, facts, tmp_path):
    shutil.copytree(folder / "backup", tmp_path / "backup")
    assert rb.TrainingBackup(tmp_path / "backup").resume_point == (1, 1)
    model, stop = cases.trained(seed=1), cases.StopAt()
    cases.train_backed_up(model, tmp_path / "backup", stop)
    assert stop.done == 3
    for value, expected in zip(cases.values(model), facts["trained"], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4)


@NAMES
def test_no_public_name_has_gone(names):
    for module, expected in names["public"].items():
        found = importlib.import_module(module)
        assert set(expected) <= set(found.__all__), module
        assert all(hasattr(found, name) for name in expected)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    cases.prepare(folder)
    return folder


@pytest.mark.parametrize("command", cases.WITH_JSON)
@NAMES
def test_json_keeps_its_keys(names, command, out, monkeypatch):
    monkeypatch.chdir(FOLDERS[0])
    code, found = cases.run([*cases.WITH_JSON[command], "--json"], out)
    assert code == 0
    assert not set(names["json"][command]) - cases.keys(found)


@pytest.mark.parametrize("name", cases.CODES)
@NAMES
def test_exit_codes_stay(names, name, out, monkeypatch):
    monkeypatch.chdir(FOLDERS[0])
    words, code = cases.CODES[name]
    assert names["exit_codes"][name] == code
    assert cases.run(words, out)[0] == code
