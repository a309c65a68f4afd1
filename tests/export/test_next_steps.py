"""A report that does not pass says what to do next, and what it says helps."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

import resnet_backbones as rb
from resnet_backbones.export.contents import Census, Operator
from resnet_backbones.export.report.kernels import KernelParity
from resnet_backbones.export.report.layers import LayerParity
from resnet_backbones.export.report.parity import OutputParity
from resnet_backbones.export.report.report import ExportReport
from resnet_backbones.export.report.text import render_markdown
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.float_layers import WhyFloat
from tests.support.nets import images, randomise

layers = keras.layers
NAN = float("nan")
IN_INT8, IN_FLOAT = Operator("CONV_2D", "int8", "x", 50), Operator("CONV_2D", "float32", "net/conv/y", 50)
GOOD = OutputParity("box", 100, 1.0, 0.2, 0.999, 0.9999)
CENSUS = Census([IN_INT8])
#: Kind of failure -> what a report has then, and what its next step names.
KINDS = {
    "a layer in float": (
        {
            "census": Census([IN_INT8, IN_FLOAT]),
            "float_reasons": {"net/conv/y": WhyFloat("of GELU", False, "net/conv")},
        },
        "'net/conv' (of GELU).*exclude=['net/conv']",
    ),
    "an operation in float": ({"census": Census([IN_INT8, IN_FLOAT])}, "quantization_summary"),
    "a loop": ({"census": Census([IN_INT8], opaque=[Operator("WHILE", "float32", "l", 0)])}, "unroll=True"),
    "cosine": ({"parity": [OutputParity("box", 100, 1.0, 0.2, 1.0, 0.99)]}, "error enter|Error enters"),
    "steps": ({"parity": [GOOD, OutputParity("class", 100, 9.0, 2.0, 0.9, 1.0)]}, "error enter|Error enters"),
    "classes": (
        {"parity": [OutputParity("out", 9, 9.0, 2.0, 0.9, 1.0, same_class=0.5, same_class_of_worst=0.1)]},
        "error enter|Error enters",
    ),
    "not finite": ({"parity": [OutputParity("box", 100, NAN, NAN, 0.999, NAN)]}, "NaN and infinity in the images"),
    "kernels": ({"kernels": KernelParity(2, 1, 0.0, ["net/conv#1"])}, "Export again.*exclude=['net/conv']"),
    "missing": (
        {"kernels": KernelParity(1, 1, 0.0, [], ["net/a/conv.kernel"])},
        "Export again.*exclude=['net/a/conv']",
    ),
    "scales": ({"kernels": KernelParity(2, 2, 0.1)}, "Export again"),
    "not compared": ({"parity": [], "compared_on": ""}, "parity_data=images"),
}
INTEGERS_ONLY = ("a layer in float", "an operation in float", "a loop", "kernels", "missing", "scales")


def report(precision, kinds=(), **more):
    """One that passes but for what the kinds change; of several kinds that change one thing, the last counts."""
    facts = {"census": CENSUS, "parity": [GOOD], "compared_on": "parity_data"}
    for kind in kinds:
        facts.update(KINDS[kind][0])
    return ExportReport(Path("m.tflite"), precision, 1000, **{**facts, **more})


@pytest.mark.parametrize("precision", ["int8", "int16x8", "float32", "float16", "dynamic_range", "unchanged"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_failure_has_its_step_wherever_the_report_is_read(kind, precision):
    quantized = precision in ("int8", "int16x8")
    if kind in INTEGERS_ONLY and not quantized:
        kind_of_float = report(precision, [kind], kernels=None)
        assert kind_of_float.passed, "a float file holds no integers to be wrong"
        assert not kind_of_float.next_steps
        return
    found = report(precision, [kind])
    assert not found.passed
    (step,) = found.next_steps
    pattern = KINDS[kind][1].replace("[", r"\[").replace("]", r"\]").replace("(", r"\(").replace(")", r"\)")
    assert re.search(pattern, step), step
    assert found.to_dict()["next_steps"] == [step]
    for text in (str(found), render_markdown(found, "m.png")):
        assert step in text.partition("What to do")[2]
        assert text.index(found.verdict) < text.index("What to do")


@pytest.mark.parametrize("compared_on", ["parity_data", "calibration data", "random data"])
@pytest.mark.parametrize(
    "measured", [[], [LayerParity("net/a/conv#1", 9.0, 0.9, 8.0), LayerParity("net/b", 50.0, 1.0, 60)]]
)
@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_no_report_fails_without_a_step_and_none_passes_with_one(precision, measured, compared_on):
    for count in range(3):
        for kinds in itertools.combinations(KINDS, count):
            found = report(precision, kinds, layers=measured)
            found.compared_on = compared_on if found.parity else ""
            assert bool(found.next_steps) == (not found.passed), kinds
            assert len(set(found.next_steps)) == len(found.next_steps)
            for step in found.next_steps:
                assert step[0].isupper()
                assert step.endswith(".")
                for name in re.findall(r"quantization\.(\w+)", step):
                    assert name in rb.quantization.__all__
            differs = bool(found.parity) and found.parity == KINDS["cosine"][0]["parity"]
            if measured and differs:
                assert "'net/a/conv'" in " ".join(found.next_steps)
            if compared_on == "random data" and differs:
                assert "images like those that the model will meet" in " ".join(found.next_steps)


def test_the_layers_with_most_work_come_first_and_those_chosen_are_not_named():
    operators, reasons = [IN_INT8], {}
    for name, macs, chosen in (("few", 1, False), ("most", 40, False), ("chosen", 90, True), ("some", 20, False)):
        for number in range(2):
            operators.append(Operator("CONV_2D", "float32", f"{name}{number}", macs))
            reasons[f"{name}{number}"] = WhyFloat(f"of {name}", chosen, f"net/{name}")
    (step,) = report("int8", census=Census(operators), float_reasons=reasons).next_steps
    assert re.findall(r"'net/(\w+)' \(", step) == ["most", "some", "few"]


VOLUMES = {
    "3D": lambda x: layers.Conv3D(4, 3, name="volume")(x),
    "3D, nested": lambda x: keras.Sequential([layers.Conv3D(4, 3, name="volume")], name="inner")(x),
    "3D and more after": lambda x: layers.ReLU()(layers.Conv3D(4, 2)(layers.Conv3D(4, 3)(x))),
}


@pytest.mark.filterwarnings("ignore:.*no quantization rule")
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("kind", VOLUMES)
def test_what_it_says_about_layers_in_float_helps(kind, suffix, tmp_path):
    keras.utils.set_random_seed(0)
    volume = layers.Input((6, 8, 8, 2))
    model = randomise(keras.Model(volume, layers.Dense(3)(layers.Flatten()(VOLUMES[kind](volume)))))
    data = images(4, 6, 8, 8, 2)
    options = {"target": "onnxruntime"} if suffix == ".onnx" else {}
    rb.quantize_post_training(model, calibration_data=data)
    failed = rb.export_model(model, tmp_path / f"m{suffix}", parity_data=data, **options)
    (step,) = failed.next_steps
    exclude = eval(re.search(r"exclude=(\[.*?\])", step)[1])
    rb.quantization.strip_quantization(model)
    rb.quantize_post_training(model, exclude=exclude, calibration_data=data)
    report = rb.export_model(model, tmp_path / f"m{suffix}", parity_data=data, **options)
    assert report.passed, report.verdict
    assert not report.next_steps


def test_a_model_without_kernels_has_no_share_to_fail_by(tmp_path):
    image = layers.Input((8, 8, 4))
    model = keras.Model(image, layers.MaxPooling2D(2)(layers.ReLU()(layers.Add()([image, layers.ReLU()(image)]))))
    rb.quantize_post_training(model, calibration_data=images(4, 8, 8, 4))
    for name, options in (("m.tflite", {}), ("m.onnx", {"target": "onnxruntime"})):
        report = rb.export_model(model, tmp_path / name, parity_data=images(4, 8, 8, 4, seed=1), **options)
        assert report.passed, report.verdict
