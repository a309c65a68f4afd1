"""Without parity data a report compares by itself, and passes only if it did."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.export.report import verify
from resnet_backbones.export.report.own_images import own_images
from resnet_backbones.keras_compat import keras
from tests.support.nets import images, randomise

layers = keras.layers


def network(*first, dtype="float32"):
    image = layers.Input((16, 16, 3), dtype=dtype)
    x = image
    for layer in first:
        x = layer(x)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3)(x)))
    return randomise(keras.Model(image, layers.Dense(4)(layers.Flatten()(x))))


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx", "m.keras", "saved"])
@pytest.mark.parametrize("calibrated", [True, False])
def test_it_compares_on_images_of_the_calibration_else_on_random_ones(name, calibrated, tmp_path):
    model = network()
    if calibrated:
        rb.quantize_post_training(model, calibration_data=images(8, 16, 16, 3))
    options = {"precision": "float32"} if name == "saved" and calibrated else {}
    options |= {"target": "onnxruntime"} if name == "m.onnx" else {}
    report = rb.export_model(model, tmp_path / name, **options)
    assert report.compared_on == ("calibration data" if calibrated else "random data")
    assert report.to_dict()["compared_on"] == report.compared_on
    assert len(report.parity) == 1
    assert report.passed, report.failures
    assert f"compared on {report.compared_on}" in str(report)


def test_a_file_that_computes_something_else_does_not_pass(tmp_path, monkeypatch):
    expected = verify.Verification._expected
    monkeypatch.setattr(
        verify.Verification,
        "_expected",
        lambda self, batches: {k: v[:, ::-1] for k, v in expected(self, batches).items()},
    )
    report = rb.export_model(network(), tmp_path / "m.tflite")
    assert report.compared_on == "random data"
    assert report.verdict.startswith("FAILED: output 'output'")


@pytest.mark.parametrize(
    ("first", "dtype", "low", "high"),
    [
        ((), "float32", -1, 1),
        ((layers.Rescaling, 1 / 255), "float32", 0, 255),
        ((layers.Rescaling, 1 / 127.5, -1.0), "float32", 0, 255),
        ((layers.Rescaling, 1 / 255), "uint8", 0, 255),
    ],
)
def test_random_images_fill_the_range_of_the_input(first, dtype, low, high):
    model = network(*([first[0](*first[1:])] if first else []), dtype=dtype)
    kind, found = own_images(model, None)
    assert kind == "random data"
    assert low <= found.min() < low + 0.2 * (high - low)
    assert high - 0.2 * (high - low) < found.max() <= high
    np.testing.assert_array_equal(found, own_images(model, None)[1])


def test_the_range_of_a_quantized_model_is_that_of_its_calibration(tmp_path):
    model = network()
    rb.quantize_aware(model, calibration_data=50 * images(8, 16, 16, 3))
    path = tmp_path / "q.keras"
    model.save(path)
    kind, found = own_images(rb.load_model(path), None)
    assert kind == "random data"
    assert found.min() < -50
    assert found.max() > 50


def test_what_cannot_be_compared_does_not_pass(tmp_path):
    left, right = layers.Input((4,)), layers.Input((4,))
    model = keras.Model([left, right], layers.Dense(2)(layers.Concatenate()([left, right])))
    report = rb.export_model(model, tmp_path / "m.keras")
    assert report.verdict.startswith("NOT COMPARED")
    assert not report.passed


def test_nor_does_it_where_nothing_runs_such_files(tmp_path, monkeypatch):
    def missing(*_):
        raise ImportError("no engine")

    monkeypatch.setattr("resnet_backbones.export.litert.emitter.runner", missing)
    assert not rb.export_model(network(), tmp_path / "m.tflite").passed
    with pytest.raises(ImportError, match="no engine"):
        rb.export_model(network(), tmp_path / "m.tflite", parity_data=images(2, 16, 16, 3))


def test_a_size_fixed_at_export_is_that_of_the_images(tmp_path):
    image = layers.Input((None, None, 3))
    model = keras.Model(image, layers.Conv2D(2, 3)(image))
    report = rb.export_model(model, tmp_path / "m.tflite", input_shape=(12, 16, 3))
    assert report.compared_on == "random data"
    assert report.passed
