"""Models built for images of any size, exported for one; and models that take no images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import even_images

layers = keras.layers
IMAGES = even_images(-1, 1, 4, 16, 24, 3)
FILES = ["m.tflite", "m.onnx", "m"]


def network(height=None, width=None, quantized=False):
    image = layers.Input((height, width, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2, padding="same")(image)))
    model = keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    return rb.quantize_post_training(model, "portable_int8", calibration_data=IMAGES) if quantized else model


@pytest.fixture(scope="module", params=[(None, None, False), (16, None, False), (None, None, True), (16, 24, True)])
def model(request):
    return network(*request.param)


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_size_asked_for_and_the_models_outputs(model, name, tmp_path):
    precision = "float32" if name == "m" else None  # a SavedModel of a quantized model is float if asked for
    report = rb.export_model(
        model, tmp_path / name, input_shape=(16, 24, 3), precision=precision, parity_data=IMAGES, batch=1
    )
    assert report.passed, str(report)
    if name != "m":
        assert sorted(rb.runtime.load(tmp_path / name).input_shape) == [1, 3, 16, 24]


def test_preprocessing_resizes_to_the_size_asked_for(tmp_path):
    rb.export_model(network(), tmp_path / "m.tflite", input_shape=(16, 24, 3), preprocessing=(32, 48))
    assert tuple(rb.runtime.load(tmp_path / "m.tflite").input_shape) == (1, 32, 48, 3)
    rb.export_model(network(), tmp_path / "n.tflite", input_shape=(16, 24, 3), preprocessing=True)
    assert tuple(rb.runtime.load(tmp_path / "n.tflite").input_shape) == (1, 16, 24, 3)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("size", "asked", "message"),
    [
        ((None, None), None, r"takes inputs of any size .*export_model\(\.\.\., input_shape=\(512, 512, 3\)\)"),
        ((16, 24), (32, 24, 3), r"takes \(16, 24, 3\) without the batch.*input_shape=\(32, 24, 3\)"),
        ((16, None), (32, 24, 3), r"takes \(16, None, 3\) without the batch"),
        ((None, None), (16, 24, 1), r"takes \(None, None, 3\) without the batch"),
        ((None, None), (16, 24), r"input_shape must be \(height, width, channels\)"),
        ((None, None), (16, None, 3), r"input_shape must be \(height, width, channels\)"),
        ((None, None), (0, 24, 3), r"input_shape must be \(height, width, channels\)"),
    ],
)
def test_a_wrong_size_is_refused(name, size, asked, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        rb.export_model(network(*size), tmp_path / name, input_shape=asked)
    assert not list(tmp_path.iterdir())


def test_a_keras_file_keeps_its_open_size(tmp_path):
    with pytest.raises(ValueError, match="input_shape= cannot be chosen for format 'keras'"):
        rb.export_model(network(), tmp_path / "m.keras", input_shape=(16, 24, 3))


def vectors(shape):
    given = layers.Input(shape)
    x = layers.Dense(6, activation="relu")(given)
    x = layers.Conv1D(4, 3)(x) if len(shape) == 2 else x
    x = layers.Flatten()(x) if len(shape) == 2 else x
    return keras.Model(given, layers.Dense(3)(x))


@pytest.mark.filterwarnings("ignore:.*no quantization rule for Conv1D", "ignore:The parity data has no known end")
@pytest.mark.parametrize("name", ["m.tflite", "m.onnx"])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("shape", [(1,), (10,), (12, 4)])
def test_models_without_images(shape, quantized, name, tmp_path):
    values = np.random.default_rng(1).normal(size=(8, *shape)).astype("float32")
    model = vectors(shape)
    if quantized:
        rb.quantize_post_training(model, "portable_int8", calibration_data=values)
    alone = rb.export_model(model, tmp_path / name)
    assert alone.compared_on == ("calibration data" if quantized else "random data")
    assert not alone.parity[0].failures
    for data in (values, [values], itertools.repeat(values)):
        report = rb.export_model(model, tmp_path / name, parity_data=data)
        assert [entry.failures for entry in report.parity] == [[]]
    assert rb.runtime.load(tmp_path / name).raw(values[:1])["output"].shape == (1, 3)


def test_what_is_for_images_is_refused_for_vectors(tmp_path):
    with pytest.raises(ValueError, match=r"preprocessing rescales and resizes images.*takes \(None, 10\)"):
        rb.export_model(vectors((10,)), tmp_path / "m.tflite", preprocessing=True)
    with pytest.raises(
        ValueError, match=r"takes \(None, 10\); export_model writes SavedModels of models that take images"
    ):
        rb.export_model(vectors((10,)), tmp_path / "m")
    with pytest.raises(ValueError, match=r"takes \(10,\) without the batch"):
        rb.export_model(vectors((10,)), tmp_path / "m.onnx", input_shape=(10, 10, 3))
    with pytest.raises(ValueError, match="The parity data must have a batch axis|cannot|shape"):
        rb.export_model(vectors((10,)), tmp_path / "m.tflite", parity_data=np.zeros((10,), "float32"))
