"""Models of numbers, tokens, signals, volumes and several inputs through every public function: right, or our words."""

from __future__ import annotations

import copy
import re
import warnings

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.errors import ExportError, raised_here
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import analyse, calibrate, quantizers_of, suggest_exclusions
from tests.support.nets import images

layers = keras.layers
COUNT = 6


def data(*shape):
    return images(COUNT, *shape)


def of(shape, *stack, dtype="float32"):
    image = x = layers.Input(shape, dtype=dtype)
    for layer in (*stack, layers.Dense(8, activation="relu"), layers.Dense(3)):
        x = layer(x)
    return keras.Model(image, x)


def of_two(by_name):
    image, facts = layers.Input((8, 8, 3), name="picture"), layers.Input((5,), name="facts")
    seen = layers.Flatten()(layers.Conv2D(4, 3)(image))
    found = layers.Dense(2)(layers.Concatenate()([seen, layers.Dense(3)(facts)]))
    return keras.Model({"picture": image, "facts": facts} if by_name else [image, facts], found)


TWO = {"picture": data(8, 8, 3), "facts": data(5)}
MODELS = {
    "table": (lambda: of((10,)), data(10)),
    "tokens": (
        lambda: of((16,), layers.Embedding(50, 8), layers.GlobalAveragePooling1D(), dtype="int32"),
        np.random.default_rng(1).integers(0, 50, (COUNT, 16)).astype("int32"),
    ),
    "signal": (lambda: of((32, 3), layers.Conv1D(8, 3), layers.GlobalAveragePooling1D()), data(32, 3)),
    "volume": (lambda: of((6, 6, 6, 2), layers.Conv3D(4, 3), layers.GlobalAveragePooling3D()), data(6, 6, 6, 2)),
    "two, listed": (lambda: of_two(False), TWO),
    "two, by name": (lambda: of_two(True), TWO),
}


TOKENS = {
    "mean": lambda: (layers.Embedding(50, 8), layers.GlobalAveragePooling1D()),
    "convolution": lambda: (layers.Embedding(50, 8), layers.Conv1D(8, 3), layers.GlobalAveragePooling1D()),
    "each": lambda: (layers.Embedding(50, 8),),
}


def called(model, given):
    listed = isinstance(given, dict) and isinstance(model.input, (list, tuple))
    return np.asarray(model([given[one] for one in ("picture", "facts")] if listed else given, training=False))


def export(suffix, scheme=None, **options):
    """A file that computes what Keras does, with a report that compared it, and runs."""

    def work(model, given, folder):
        if scheme:
            rb.quantize_post_training(model, scheme, calibration_data=given)
        report = rb.export_model(model, folder / f"m{suffix}", parity_data=given, **options)
        assert str(report)
        assert report.parity
        if suffix == ".keras":
            return np.testing.assert_allclose(
                called(rb.load_model(report.path), given), called(model, given), atol=1e-5
            )
        file = rb.runtime.load(report.path)
        (found,) = file.raw(given).values()
        expected = called(model, given)
        np.testing.assert_allclose(found, expected, atol=max(1e-4, 0.03 * np.ptp(expected)) if scheme else 1e-4)
        file.timer()()
        return file.predict(given)

    return work


def no_parity_data(model, given, folder):
    rb.export_model(model, folder / "m.keras")
    rb.export_model(model, folder / "m.tflite", latency=True)


def trained(model, given, folder):
    rb.quantize_aware(model)
    model.compile("sgd", "mse")
    inputs = [given[one] for one in ("picture", "facts")] if isinstance(model.input, list) else given
    labels = np.zeros((COUNT, model.output_shape[-1]))
    model.fit(inputs, labels, epochs=2, verbose=0, callbacks=[rb.QuantizationSchedule(freeze_ranges_epoch=1)])
    assert all(quantizer.has_range for quantizer in quantizers_of(model))


def looked_at(model, given, folder):
    rb.quantize_post_training(model, calibration_data=given)
    before = called(model, given)
    calibrate(model, given, "percentile")
    assert str(rb.quantization_summary(model))
    assert str(analyse(model, given))
    np.testing.assert_allclose(called(copy.deepcopy(model), given), called(model, given), atol=1e-6)
    rb.strip_quantization(model)
    assert before.shape == called(model, given).shape


def excluded(model, given, folder):
    rb.quantize_post_training(model, calibration_data=given)
    assert suggest_exclusions(model, given, metric=lambda _: 1.0, target=0.1) is not None


FUNCTIONS = {
    "float .tflite": export(".tflite"),
    "float .onnx": export(".onnx", target="onnxruntime"),
    "float .keras": export(".keras"),
    "a SavedModel": lambda model, given, folder: rb.export_model(model, folder / "m", parity_data=given),
    "edge_int8 .tflite": export(".tflite", "edge_int8"),
    "edge_int16x8 .tflite": export(".tflite", "edge_int16x8"),
    "portable_int8 .onnx": export(".onnx", "portable_int8"),
    "gpu_int8 .onnx": export(".onnx", "gpu_int8"),
    "edge_int8 .keras": export(".keras", "edge_int8"),
    "no parity data": no_parity_data,
    "trained": trained,
    "looked at": looked_at,
    "excluded": excluded,
    "weights.save": lambda model, given, folder: rb.weights.save(model, folder / "w.npz"),
    "weights.load": lambda model, given, folder: rb.weights.load(model, folder / "w.npz"),
    "from_model": lambda model, given, folder: rb.from_model(model, {"P1": model.layers[-1].name}),
}
# Of these every model is right.
ALWAYS = ("float .keras", "edge_int8 .keras", "trained", "looked at", "excluded")


def outcome(work, *arguments):
    """The error that it ends in, or ``None``."""
    try:
        work(*arguments)
    except (TypeError, ValueError) as error:
        return error


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_it_is_right_or_said_in_our_words(name, function, tmp_path):
    build, given = MODELS[name]
    error = outcome(FUNCTIONS[function], build(), given, tmp_path)
    assert error is None or raised_here(error) or isinstance(error, ExportError), error
    assert error is None or "two" in name or function not in ALWAYS, error


@pytest.mark.parametrize("scheme", ["edge_int8", "portable_int8", "gpu_int8", "edge_int16x8"])
@pytest.mark.parametrize("kind", TOKENS)
def test_what_a_file_cannot_take_of_tokens_is_said_when_quantizing(kind, scheme, tmp_path):
    model, given = of((16,), *TOKENS[kind](), dtype="int32"), MODELS["tokens"][1]
    words = "takes int32 values, and layer 'embedding.*a .tflite file of integers cannot.*Export it to .onnx"
    if scheme == "edge_int16x8":
        with pytest.raises(ValueError, match=f"{words}.*quantize with 'edge_int8'"):
            rb.quantize_aware(model, scheme)
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        rb.quantize_post_training(model, scheme, calibration_data=given)
    assert any(re.search(words, str(one.message)) for one in said) == (scheme != "gpu_int8")
    if scheme != "gpu_int8":
        with pytest.raises(ValueError, match=words):
            rb.export_model(model, tmp_path / "m.tflite")
        rb.export_model(model, tmp_path / "float.tflite", precision="float32", parity_data=given)
    target = {} if scheme == "gpu_int8" else {"target": "onnxruntime"}
    report = rb.export_model(model, tmp_path / "m.onnx", parity_data=given, **target)
    assert report.parity[0].cosine > 0.9999
