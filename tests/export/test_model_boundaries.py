"""A quantized model becomes a float file only if that is asked for, wherever its layers are used besides."""

from __future__ import annotations

import os

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.export.model_boundaries import IMAGES, WRAPPERS, net
from tests.support.nets import randomise

layers = keras.layers
SCHEMES = ("edge_int8", "gpu_int8", "portable_int8")
CASES = [(name, ("inner", "outer")[number % 2], SCHEMES[number % 3]) for number, name in enumerate(WRAPPERS)]
CASES += [
    ("subclass", "outer", "edge_int8"),
    ("relu after", "inner", "edge_int8"),
    ("cut at a relu", "inner", "gpu_int8"),
]


def output(model):
    return np.asarray(model(IMAGES, training=False))


def exported(model, path):
    report = rb.export_model(model, path, parity_data=IMAGES)
    assert report.precision == "int8"
    assert report.passed, report.verdict
    assert report.int8_mac_share > 0.99 * (1 - report.chosen_float_mac_share)


@pytest.mark.parametrize(("wrapper", "first", "scheme"), CASES)
def test_models_that_share_layers_are_quantized_files_or_refused(wrapper, first, scheme, tmp_path):
    inner = net()
    if first == "outer":
        quantized, other = WRAPPERS[wrapper](inner), inner
        rb.quantize_post_training(quantized, scheme, calibration_data=IMAGES)
    else:
        quantized = rb.quantize_post_training(inner, scheme, calibration_data=IMAGES)
        other = WRAPPERS[wrapper](inner)
    path = tmp_path / ("model.onnx" if scheme == "gpu_int8" else "model.tflite")
    before = output(quantized)
    exported(quantized, path)

    for name in ("other.tflite", "other.onnx", "other"):
        with pytest.raises(ValueError, match=r"quantize_aware\(model, .* completes it"):
            rb.export_model(other, tmp_path / name)
    assert os.listdir(tmp_path) == [path.name]

    try:
        rb.quantize_aware(other, scheme, calibration_data=IMAGES)
    except ValueError as error:
        assert "strip_quantization" in str(error)  # noqa: PT017
        np.testing.assert_array_equal(output(quantized), before)
        exported(quantized, path)
        return
    exported(other, path)
    other.save(tmp_path / "other.keras")
    np.testing.assert_array_equal(output(rb.load_model(tmp_path / "other.keras")), output(other))
    try:
        exported(quantized, path)
    except ValueError as error:
        assert "completes it" in str(error)  # noqa: PT017
        with pytest.raises(NotImplementedError):
            quantized.save(tmp_path / "quantized.keras")


@pytest.mark.parametrize(
    ("scheme", "name", "precision"),
    [("edge_int16x8", "m.onnx", "int16x8"), ("edge_int16x8", "m", "int16x8"), ("edge_int8", "m", "int8")],
)
def test_a_format_without_the_scheme_s_integers_is_refused(scheme, name, precision, tmp_path):
    model = rb.quantize_post_training(net(), scheme, calibration_data=IMAGES)
    for arguments in ({}, {"target": "onnxruntime"} if name == "m.onnx" else {"preprocessing": True}):
        with pytest.raises(ValueError, match=f"makes {precision} files.* litert.*precision='float32'"):
            rb.export_model(model, tmp_path / name, **arguments)
    assert not os.listdir(tmp_path)
    assert rb.export_model(model, tmp_path / name, precision="float32", parity_data=IMAGES).passed
    assert rb.export_model(model, tmp_path / "m.keras", parity_data=IMAGES).precision == "unchanged"


def test_a_part_completed_beside_the_model_that_holds_its_range_is_refused(tmp_path):
    """Its range is a variable of a layer that the part does not have: a saved part would lose it."""
    first, second = net(), net()
    image = layers.Input((8, 8, 3))
    both = keras.Model(image, layers.Add()([second(image), first(image)]))
    rb.quantize_post_training(both, calibration_data=IMAGES)
    results = []
    for part in (first, second):
        try:
            rb.quantize_aware(part, calibration_data=IMAGES)
        except ValueError as error:
            results.append("refused" if "strip_quantization" in str(error) else error)
        else:
            part.save(tmp_path / "part.keras")
            np.testing.assert_array_equal(output(rb.load_model(tmp_path / "part.keras")), output(part))
            results.append("completed")
    assert sorted(results) == ["completed", "refused"]


# --- quantizing a second time -------------------------------------------------------------------------------------

PATTERNS = {
    "plain": {},
    "excluded first": {"exclude": ["first"]},
    "excluded head": {"exclude": ["head"]},
    "excluded both": {"exclude": ["first", "sec*"]},
    "wide": {"override": {"second": {"activation_bits": 16}}},
    "narrow": {"override": {"sec*": {"kernel_bits": 4}}},
}
OBSERVERS = ("min_max", "percentile", "mse")


def again_cases():
    """Every pattern twice, and before and after another; schemes, observers and calibration rotate."""
    names = list(PATTERNS)
    for number, one in enumerate(names):
        for step in (0, 1 + number % 5):
            two = names[(number + step) % len(names)]
            yield one, two, SCHEMES[(number + step) % 3], OBSERVERS[(number // 2) % 3], (number + step) % 2 == 0


@pytest.mark.parametrize(("first", "second", "scheme", "observer", "calibrated"), list(again_cases()))
def test_quantizing_again_gives_what_a_fresh_call_gives_or_is_refused(
    first, second, scheme, observer, calibrated, tmp_path
):
    def build():
        keras.utils.set_random_seed(3)
        return net()

    data = {"calibration_data": IMAGES if calibrated else None, "observer": observer}
    model = rb.quantize_post_training(build(), scheme, calibration_data=0.7 * IMAGES, **PATTERNS[first])
    before = output(model)
    if first == second:
        rb.quantize_aware(model, scheme, **data, **PATTERNS[second])
        expected = dict(data) if calibrated else {"calibration_data": 0.7 * IMAGES}
    else:
        with pytest.raises(ValueError, match=r"already quantized with exclude=.*strip_quantization\(model\) first"):
            rb.quantize_aware(model, scheme, **data, **PATTERNS[second])
        np.testing.assert_array_equal(output(model), before)
        rb.strip_quantization(model)
        expected = {"calibration_data": IMAGES, "observer": observer}
        rb.quantize_aware(model, scheme, **expected, **PATTERNS[second])
    fresh = rb.quantize_aware(build(), scheme, **expected, **PATTERNS[second])
    np.testing.assert_array_equal(output(model), output(fresh))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(output(rb.load_model(tmp_path / "model.keras")), output(model))


def test_another_scheme_after_the_first_is_refused_and_a_stripped_model_takes_it():
    model = rb.quantize_post_training(net(), calibration_data=IMAGES)
    with pytest.raises(ValueError, match=r"already quantized with scheme 'edge_int8'.*strip_quantization"):
        rb.quantize_aware(model, "gpu_int8")
    rb.quantize_post_training(rb.strip_quantization(model), "gpu_int8", calibration_data=IMAGES)


def test_an_inner_model_s_patterns_are_not_overruled_silently():
    inner = rb.quantize_post_training(net(), calibration_data=IMAGES, exclude=["first"])
    outer = WRAPPERS["dense after"](inner)
    with pytest.raises(ValueError, match=r"exclude=\['first'\].*Give the same patterns"):
        rb.quantize_aware(outer, calibration_data=IMAGES)
    rb.quantize_aware(outer, calibration_data=IMAGES, exclude=["first"])


def test_a_loaded_model_is_quantized_again_by_the_same_rules(tmp_path):
    model = rb.quantize_post_training(randomise(net()), calibration_data=IMAGES, exclude=["head"])
    model.save(tmp_path / "model.keras")
    loaded = rb.load_model(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="strip_quantization"):
        rb.quantize_aware(loaded)
    rb.quantize_aware(loaded, exclude=["head"])
    np.testing.assert_array_equal(output(loaded), output(model))


class Hiding(keras.Model):
    """Calls a model that it keeps where Keras does not look for layers."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.call_inner = lambda images: inner(images)
        self.own = layers.Dense(3, name="own")

    def call(self, images):
        return self.own(self.call_inner(images))


def _in_a_lambda(inner):
    image = layers.Input((8, 8, 3))
    hidden = layers.Lambda(lambda images: inner(images), output_shape=(4,))(image)
    return keras.Model(image, layers.Dense(3)(hidden))


def _hidden(inner):
    model = Hiding(inner)
    model(IMAGES[:1])
    return model


@pytest.mark.parametrize("quantized_too", [False, True])
@pytest.mark.parametrize("wrap", [_in_a_lambda, _hidden])
def test_a_quantized_model_that_keras_does_not_see_is_no_float_file_of_another(wrap, quantized_too, tmp_path):
    wrapper = wrap(rb.quantize_post_training(net(), "edge_int8", calibration_data=IMAGES))
    if quantized_too:
        rb.quantize_post_training(wrapper, "edge_int8", calibration_data=IMAGES)
    for name in ("a.tflite", "a"):
        with pytest.raises(ValueError, match=r"quantized layers that are none of its own \(\d+ ranges, first: first_"):
            rb.export_model(wrapper, tmp_path / name)
    assert rb.export_model(wrapper, tmp_path / "a.tflite", precision="float32", parity_data=IMAGES).passed
