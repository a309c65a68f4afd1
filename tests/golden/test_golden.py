"""A few files of the golden record, in every run of the tests; ``make test-golden`` checks them all."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import resnet_backbones as rb
from tests.golden import measure, record
from tests.golden.models import BUILD, IMAGES, seeded, snapped

FEW = ["basic/edge_int8.tflite", "subclassed/*.tflite", "subclassed/gpu*", "nested/portable_int8.tensorrt.onnx"]


def test_files_are_as_recorded():
    assert record.check(record.chosen(FEW)) == []


def test_every_file_is_recorded_in_both_kerases():
    found = record.read()
    assert {library: set(files) for library, files in found.items()} == {key: set(record.NAMES) for key in found}
    assert set(found) == {"keras", "tf_keras"}


def test_names_are_models_or_files_or_patterns():
    assert record.chosen(["basic"]) == [name for name in record.NAMES if name.startswith("basic/")]
    assert record.chosen(["*/savedmodel"]) == [f"{model}/savedmodel" for model in BUILD]
    assert not record.chosen(["bas"])


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """Of one file of integers, and of the same file after a change in the model."""
    found = []
    for change in (lambda model: None, _other_kernel, _other_bias, _other_range):
        model = snapped(rb.quantize_post_training(seeded(BUILD["subclassed"]()), calibration_data=IMAGES))
        change(model)
        path = tmp_path_factory.mktemp("golden") / "x.tflite"
        rb.export_model(model, path)
        outputs = measure.summary(rb.runtime.load(path).raw(IMAGES))
        found.append({**measure.constants_and_operators(path), "outputs": outputs})
    return found


def _other_kernel(model):
    kernel = model.head.kernel.numpy()
    kernel[3, 2] *= 0.9
    model.head.kernel.assign(kernel)


def _other_bias(model):
    model.shared.bias.assign(model.shared.bias + 0.001 * np.eye(8)[0].astype("float32"))


def _other_range(model):
    quantizer = rb.quantization.quantizers_of(model)[1]
    low, high = quantizer.range()
    quantizer.set_range(low, 1.002 * high)


def test_any_change_of_a_file_is_seen(facts):
    same, kernel, bias, other_range = ({*measure.differences(facts[0], each, quantized=True)} for each in facts)
    assert same == set()
    assert kernel == {"integers.int8"}
    assert bias == {"biases"}
    assert "log2_scales" in other_range


def test_what_another_cpu_rounds_otherwise_is_no_change(facts):
    other = copy.deepcopy(facts[0])
    for field, number in (("biases", 1.0), ("log2_scales", 1e-6)):
        other[field][2] += number
    for numbers in other["outputs"].values():
        numbers[1] += 0.01 * numbers[2]
    assert not measure.differences(facts[0], other, quantized=True)


def test_a_difference_says_what_was_and_what_is():
    old, new = {"operators": {"ADD int8": 2}}, {"operators": {"ADD int8": 1, "ADD float32": 1}}
    found = measure.differences(old, new, quantized=True)
    assert found == {"operators.ADD int8": "2 -> 1", "operators.ADD float32": "None -> 1"}
