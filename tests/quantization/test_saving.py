"""A detector, float and quantized, saved after training, loads in a process that knows nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_api import IS_KERAS_3, keras

FRESH_PROCESS = """
    import sys
    import numpy as np
    import resnet_backbones as rb

    folder, quantized = sys.argv[1], sys.argv[2] == "quantized"
    model = rb.load_model(f"{folder}/detector.keras")
    data = np.load(f"{folder}/data.npz")
    outputs = model(data["images"], training=False)
    for name in ("box", "classification"):
        np.testing.assert_array_equal(np.asarray(outputs[name]), data[name])
    # It can go on training.
    keyword = {"jit_compile": False} if "keras" in sys.modules else {}
    model.compile(box_loss="smoothl1", classification_loss="focal", optimizer="sgd", **keyword)
    callbacks = [rb.QuantizationSchedule(0, 0)] if quantized else []
    labels = {"boxes": data["boxes"], "classes": data["classes"]}
    losses = model.fit(data["images"], labels, batch_size=2, epochs=1, verbose=0, callbacks=callbacks).history["loss"]
    assert np.isfinite(losses).all()
    after = model(data["images"], training=False)
    assert np.any(np.asarray(after["box"]) != data["box"])
    print("loaded, equal, trained")
"""


@pytest.fixture(scope="module")
def labels():
    boxes = np.array([[[8, 8, 24, 24]], [[30, 20, 16, 32]]], "float32")
    return {"boxes": boxes, "classes": np.array([[1], [2]], "float32")}


def fit(detector, images, labels, **arguments):
    keyword = {"jit_compile": False} if IS_KERAS_3 else {}
    detector.compile(box_loss="smoothl1", classification_loss="focal", optimizer="sgd", **keyword)
    detector.fit(images, labels, batch_size=2, epochs=1, verbose=0, **arguments)


@pytest.mark.parametrize("kind", ["float", "quantized"])
def test_a_trained_detector_loads_in_a_fresh_process_and_trains_on(kind, images, labels, tmp_path):
    images = images[:2]
    backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, 3))
    detector = rb.adapters.keras_cv.retinanet(backbone, num_classes=3, bounding_box_format="xywh")
    if kind == "quantized":
        rb.quantize_aware(detector, calibration_data=images)
    fit(detector, images, labels)
    detector.save(tmp_path / "detector.keras")
    outputs = {name: np.asarray(value) for name, value in detector(images, training=False).items()}
    np.savez(tmp_path / "data.npz", images=images, **labels, **outputs)
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FRESH_PROCESS), str(tmp_path), kind],
        capture_output=True, text=True, env=os.environ, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert "loaded, equal, trained" in result.stdout


def test_a_quantized_classifier_keeps_its_frozen_switches(classifier, images, tmp_path):
    rb.quantize_aware(classifier, calibration_data=images)
    schedule = rb.QuantizationSchedule(0, 0)
    classifier.fit(images, np.zeros(4), verbose=0, callbacks=[schedule])
    classifier.save(tmp_path / "classifier.keras")
    loaded = rb.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(loaded(images).numpy(), classifier(images).numpy())
    quantizers = rb.quantization.quantizers_of(loaded)
    assert {float(q.observing.numpy()) for q in quantizers} == {0.0}


def test_a_quantized_backbone_inside_a_float_task_is_saved_with_its_ranges(images, tmp_path):
    backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, 3), quantization="edge_int8")
    rb.calibrate(backbone, images)
    model = rb.adapters.keras_cv.image_classifier(backbone, num_classes=3)
    expected = np.asarray(model(images, training=False))
    model.save(tmp_path / "model.keras")
    loaded = rb.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(images, training=False)), expected)


def test_weights_alone_are_saved_and_loaded_with_the_ranges(classifier, images, tmp_path):
    rb.quantize_aware(classifier, calibration_data=images)
    classifier.save_weights(tmp_path / "it.weights.h5")
    expected = classifier(images).numpy()
    for weight in classifier.weights:
        weight.assign(np.full(weight.shape, 0.5, "float32"))
    classifier.load_weights(tmp_path / "it.weights.h5")
    np.testing.assert_array_equal(classifier(images).numpy(), expected)


def test_a_truncated_file_is_a_clear_error(classifier, tmp_path):
    path = tmp_path / "whole.keras"
    classifier.save(path)
    cut = tmp_path / "cut.keras"
    cut.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="not a whole .keras file"):
        rb.load_model(cut)
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("something.txt", "else")
    with pytest.raises(ValueError, match="not a whole .keras file"):
        rb.load_model(tmp_path / "other.keras")


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.keras"):
        rb.load_model(tmp_path / "nowhere.keras")


def test_the_running_keras_is_the_one_asked_for():
    assert keras.__version__.startswith("3.") == IS_KERAS_3
