"""What the report measures and when it passes; a file broken in one place is caught and named."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.export import formats
from resnet_backbones.export.contents import Census, Operator
from resnet_backbones.export.litert import emitter as litert
from resnet_backbones.export.litert.flatbuffer import read_model, write_model
from resnet_backbones.export.report import verify
from resnet_backbones.export.report.kernels import compare_kernels
from resnet_backbones.export.report.latency import time_in_turns
from resnet_backbones.export.report.parity import OutputParity
from resnet_backbones.export.report.report import ExportReport
from resnet_backbones.export.request import ExportRequest
from resnet_backbones.keras_compat import keras
from resnet_backbones.tasks import TaskDescriptor, register_task
from tests.support.nets import images, randomise

layers = keras.layers
REQUEST = ExportRequest("litert", "int8")


@pytest.fixture(scope="module")
def batch():
    return images(8, 16, 16, 3)


@pytest.fixture(scope="module")
def net(batch):
    """Convolutions whose names the file keeps and leaves out, a separable one, a shared one, and a softmax."""
    keras.utils.set_random_seed(0)
    image = layers.Input((16, 16, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="first")(image)))
    x = layers.Activation("silu")(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="middle")(x)))
    x = layers.ReLU()(layers.BatchNormalization()(layers.SeparableConv2D(8, 3, padding="same", name="apart")(x)))
    shared = layers.Conv2D(8, 1, activation="relu", name="shared")
    x = layers.Add(name="sum")([shared(x), shared(layers.MaxPooling2D(1)(x))])
    x = layers.GlobalAveragePooling2D()(x)
    model = randomise(keras.Model(image, layers.Dense(5, activation="softmax", name="last")(x), name="net"))
    return rb.quantize_post_training(model, calibration_data=batch)


@pytest.fixture(scope="module")
def emitted(net):
    return litert.emit(net, REQUEST)


@pytest.fixture(scope="module")
def report(net, batch, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "net.tflite"
    return rb.export_model(net, path, parity_data=batch, layers=True, latency=True)


def test_every_kernel_is_compared_and_equal(report):
    kernels = report.kernels
    assert (kernels.compared, kernels.equal) == (7, 7), "five layers, one of two kernels, one called twice"
    assert kernels.scale_error < 1e-6
    assert not kernels.different
    assert not kernels.missing
    assert report.passed, report.failures


def test_a_kernel_with_one_other_integer_is_named(net, emitted):
    kernels = list(emitted.kernels)
    values = kernels[1].values.copy()
    values[0, 0, 0, 0] += 1
    kernels[1] = dataclasses.replace(kernels[1], values=values)
    found = compare_kernels(net, kernels, emitted.sources)
    assert (found.compared - found.equal, found.different) == (1, ["net/middle"])


def test_a_kernel_of_another_scale_and_one_left_out_are_seen(net, emitted):
    first, *others = emitted.kernels
    scales = first.scales.copy()
    scales[2] *= 1.01
    found = compare_kernels(net, [dataclasses.replace(first, scales=scales), *others], emitted.sources)
    assert found.scale_error == pytest.approx(0.01, rel=1e-3)
    found = compare_kernels(net, others, emitted.sources)
    assert found.missing == ["net/first.kernel"]


def test_layers_are_the_keras_model_s_own_in_order(report):
    named = [entry.layer.removeprefix("net/") for entry in report.layers]
    weighted = [name for name in named if name.split("#")[0] in ("first", "middle", "apart", "shared", "last")]
    assert weighted == ["first", "middle", "apart", "shared", "shared#1", "last"]
    assert named.index("sum") > named.index("shared#1")
    assert min(entry.sqnr for entry in report.layers) > 30
    assert min(entry.cosine for entry in report.layers) > 0.999


def test_float_layers_are_equal_to_six_digits_activations_and_all(net, batch, tmp_path):
    report = rb.export_model(net, tmp_path / "f.tflite", precision="float32", parity_data=batch, layers=True)
    assert len(report.layers) >= 6
    assert min(entry.sqnr for entry in report.layers) > 100
    assert report.kernels is None


def test_the_layer_where_error_enters_is_found(net, emitted, batch, tmp_path):
    """One kernel of the file is broken: its layer adds most error, and those behind it carry it on."""
    model = read_model(emitted.data)
    (broken,) = [entry for entry in emitted.kernels if emitted.sources.weighted(entry.output)[0].layer.name == "middle"]
    for operator in model.subgraphs[0].operators:
        if model.subgraphs[0].tensors[operator.outputs[0]].name.decode() == broken.output:
            buffer = model.buffers[model.subgraphs[0].tensors[operator.inputs[1]].buffer]
            buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)[::-1].copy()
    path = tmp_path / "broken.tflite"
    litert.write(dataclasses.replace(emitted, data=write_model(model)), _facts(emitted), path)
    found = verify.Verification(net, formats.FORMATS["litert"], REQUEST, emitted, path).layers([batch])
    worst = min(found, key=lambda entry: entry.added)
    place = found.index(worst)
    assert (place, worst.layer) == (1, "net/middle")
    assert worst.sqnr < 10
    assert worst.added == pytest.approx(worst.sqnr, abs=0.1)
    assert found[0].sqnr > 30
    assert all(entry.sqnr < 20 for entry in found[1:-2]), "until the mean averages it away"


def _facts(emitted):
    return {"task": {"name": "tensors"}, **emitted.metadata, "class_names": None}


def test_latency_is_of_the_file_and_its_float_form(report):
    assert [entry.name for entry in report.latency] == ["int8", "float32"]
    for entry in report.latency:
        assert 0 < entry.minimum <= entry.median
        assert entry.runs >= 10


def test_programs_are_timed_in_turns():
    order = []
    programs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    found = time_in_turns(programs, 1, seconds=0.0, least=5)
    assert "".join(order) == "aabb" + 5 * "ab"
    assert [(entry.name, entry.runs) for entry in found] == [("a", 5), ("b", 5)]


def good(**changes):
    census = Census([Operator("CONV_2D", "int8", "x", 96), Operator("CONV_2D", "float32", "y", 4)])
    parity = [OutputParity("box", 100, 3.0, 0.2, 0.995, 0.9995)]
    made = ExportReport(formats.Path("m.tflite"), "int8", 1000, census, parity=parity, int8_share_wanted=0.95)
    return dataclasses.replace(made, **changes)


def test_a_report_passes_by_thresholds_and_says_what_does_not():
    assert good().passed
    assert good().verdict == "PASSED"
    (failure,) = good(int8_share_wanted=0.99).failures
    assert failure == "96.00 % of the multiply-accumulates are in int8, 99 % are wanted"
    (failure,) = good(parity=[OutputParity("box", 100, 3.0, 0.2, 0.995, 0.9989)]).failures
    assert "output 'box': cosine 0.998900" in failure
    (failure,) = good(parity=[OutputParity("box", 100, 3.0, 0.2, 0.98, 0.9999)]).failures
    assert "98.00 % of the values within two steps" in failure
    assert not good(parity=[OutputParity("box", 100, 3.0, 0.2, 0.995, float("nan"))]).passed
    assert good(parity=[]).verdict.startswith("NOT COMPARED")
    assert not good(parity=[]).passed
    assert good(precision="float32").passed, "a float file needs no integers"


def test_the_share_wanted_is_the_task_s(net, tmp_path, monkeypatch):
    from resnet_backbones import tasks

    monkeypatch.setattr(tasks, "_TASKS", dict(tasks._TASKS))
    register_task(type(net), TaskDescriptor("net", lambda model: {}, int8_share=0.5))
    assert rb.export_model(net, tmp_path / "m.tflite").int8_share_wanted == 0.5


def test_it_is_saved_as_json_markdown_with_a_picture_and_text(report, tmp_path):
    report.save(tmp_path / "r.json")
    facts = json.loads((tmp_path / "r.json").read_text())
    assert facts["passed"] is True
    assert facts["kernels"]["equal"] == 7
    assert len(facts["layers"]) == len(report.layers)
    report.save(tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text()
    assert "![" in text
    assert "(r.png)" in text
    assert "| CONV_2D | int8 | 4 |" in text or "| CONV_2D | int8 | 5 |" in text
    assert text.rstrip().endswith("PASSED")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    report.save(tmp_path / "r.txt")
    assert "Kernels: 7 of 7" in (tmp_path / "r.txt").read_text()
    assert sorted(os.listdir(tmp_path)) == ["r.json", "r.md", "r.png", "r.txt"]
    with pytest.raises(ValueError, match=r"\.json, \.md or \.txt"):
        report.save(tmp_path / "r.html")


@pytest.mark.parametrize(
    "layer", [lambda: keras.layers.Conv3D(8, 3, activation="relu"), lambda: keras.layers.Conv3DTranspose(4, 2, 2)]
)
def test_three_dimensional_convolutions_count_as_the_float_they_are(layer, tmp_path):
    volume = keras.layers.Input((6, 8, 8, 2))
    model = keras.Model(volume, keras.layers.Dense(3)(keras.layers.Flatten()(layer()(volume))))
    data = np.random.default_rng(0).normal(size=(4, 6, 8, 8, 2)).astype("float32")
    with pytest.warns(UserWarning, match="no quantization rule"):
        rb.quantize_post_training(model, calibration_data=data)
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=data)
    shapes = model.layers[1].kernel.shape
    values = (
        np.prod(model.layers[1].output.shape[1:4]) if "Transpose" not in type(model.layers[1]).__name__ else 6 * 8 * 8
    )
    expected = int(values * np.prod(shapes))
    assert sum(op.macs for op in report.census.not_int8()) == expected
    assert "FAILED" in report.verdict


def test_reasons_are_found_by_whole_names():
    operators = [
        Operator("CONV_2D", "float32", "net/conv10/BiasAdd", 1, ("net/input",)),
        Operator("CONV_2D", "float32", "net/x/Relu;net/conv1/BiasAdd", 1),
        Operator("ADD", "float32", "net/sum/add", 1, ("net/inner/conv1/BiasAdd",)),
    ]
    report = ExportReport("m.tflite", "int8", 1, Census(operators), left_in_float={"conv1": "of a reason"})
    reasons = list(report.float_operators.values())
    assert ["of a reason" in reason for reason in reasons] == [False, True, True]
