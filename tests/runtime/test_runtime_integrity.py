"""Damaged and forged files: an error that says what is wrong, before an engine sees them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from resnet_backbones import runtime
from resnet_backbones.runtime import append_metadata, read_metadata
from resnet_backbones.runtime.files.onnx import encode
from resnet_backbones.runtime.files.tflite import verify_tflite
from tests.runtime import fuzz_bases, onnx_models
from tests.runtime.fuzz_cases import joined, split
from tests.runtime.fuzz_files import FAULTS
from tests.runtime.tiny_models import detector_metadata

TENSORS = {"task": {"name": "tensors"}, "input": {}, "outputs": [], "class_names": ["été"]}


@pytest.fixture
def onnx_file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(append_metadata(onnx_models.classifier(metadata={"author": "me"}), TENSORS, "onnx"))
    return path


def test_onnx_metadata_is_read_by_us_and_by_onnx(onnx_file):
    metadata = read_metadata(onnx_file)
    assert {key: metadata[key] for key in TENSORS} == TENSORS
    properties = {entry.key: entry.value for entry in onnx.load(onnx_file).metadata_props}
    assert json.loads(properties["resnet_backbones"]) == metadata
    assert properties["author"] == "me"


def test_onnx_metadata_is_replaced_and_the_rest_kept(onnx_file):
    once = onnx_file.read_bytes()
    onnx_file.write_bytes(append_metadata(once, {**TENSORS, "class_names": None}, "onnx"))
    assert read_metadata(onnx_file)["class_names"] is None
    assert len(onnx.load(onnx_file).metadata_props) == 3
    assert append_metadata(onnx_file.read_bytes(), TENSORS, "onnx") == once
    runtime.load(onnx_file)


def test_a_model_saved_again_by_onnx_is_still_whole(onnx_file):
    """The hash is of the fields, wherever the metadata stands among them."""
    onnx.save(onnx.load(onnx_file), onnx_file)
    assert runtime.load(onnx_file).metadata is not None


def test_onnx_without_metadata_has_none(tmp_path):
    (tmp_path / "m.onnx").write_bytes(onnx_models.classifier())
    assert read_metadata(tmp_path / "m.onnx") is None
    assert runtime.load(tmp_path / "m.onnx").task == "tensors"


@pytest.mark.parametrize("data", [b"", b"no model at all", encode(14, b"")])
def test_what_is_no_onnx_is_an_error(tmp_path, data):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"cannot be read|is empty"):
        runtime.load(tmp_path / "m.onnx")
    if data:
        with pytest.raises(ValueError, match="Cannot add metadata"):
            append_metadata(data, TENSORS, "onnx")


def test_an_unknown_format_is_an_error(detector):
    with pytest.raises(ValueError, match="litert and onnx"):
        append_metadata(detector.flatbuffer, TENSORS, "gguf")


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_a_flipped_bit_is_found_before_the_engine_sees_it(onnx_file, detector_file, suffix, monkeypatch):
    path = onnx_file if suffix == "onnx" else detector_file
    monkeypatch.setattr(runtime.model, "open_program", lambda *_: pytest.fail("the engine saw it"))
    data = bytearray(path.read_bytes())
    data[300] ^= 4
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged: its content"):
        runtime.load(path)


def test_a_flipped_bit_of_onnx_metadata_is_found(onnx_file):
    onnx_file.write_bytes(onnx_file.read_bytes().replace(b'"tensors"', b'"tensort"'))
    with pytest.raises(ValueError, match="checksum"):
        read_metadata(onnx_file)


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_a_file_of_an_older_version_has_no_hash_and_loads(onnx_file, detector_file, suffix):
    path = onnx_file if suffix == "onnx" else detector_file
    content, text = split(path.read_bytes(), suffix == "onnx")
    older = {key: value for key, value in json.loads(text).items() if key != "sha256"}
    path.write_bytes(joined(content, json.dumps(older).encode(), suffix == "onnx"))
    assert runtime.load(path).metadata == older


WRONG = [
    (("input", "layout"), "CHWN", "one of NHWC, NCHW"),
    (("input", "shape"), [1, 64, 96, 4], "belongs to another model"),
    (("input", "shape"), [1, 2**40, 1, 3], "whole numbers"),
    (("input", "scale"), [1, 2], "scales 2 channels"),
    (("input", "scale"), "1", "a number or one a channel"),
    (("input", "offset"), 1e300, "a number or one a channel"),
    (("input", "network_size"), [0, 5], "whole numbers from 1"),
    (("outputs",), [{"name": "box", "parts": []}], "names of the file's outputs"),
    (("outputs",), [{"name": "box", "parts": ["box_0", "classification_0"], "axis": 1}], "does not fit"),
    (("outputs", 0, "axis"), 99, "whole number from -8 to 8"),
    (("outputs", 1, "name"), "box", "different names"),
    (("class_names",), ["a"], "1 class names for 3 classes"),
    (("class_names",), [1, 2, 3], "short texts"),
    (("task", "num_classes"), True, "whole number"),
    (("task", "num_classes"), 4, "class names for 4"),
    (("task", "bounding_box_format"), "polar", "one of yxyx"),
    (("task", "box_variance"), [0.1], "four numbers"),
    (("task", "anchors", "strides"), [1, 0], "whole numbers from 1"),
    (("task", "anchors", "strides"), [16], "as many sizes"),
    (("task", "anchors", "scales"), [1.0] * 65, "1 to 64 numbers"),
    (("task", "anchors", "sizes"), [float("1e9"), 1], "numbers from"),
    (("task", "anchors", "clip_boxes"), 1, "true or false"),
    (("task", "anchors"), [], "a dictionary"),
    (("task", "nms", "max_detections"), 10**9, "from 1 to 10000"),
    (("task", "nms", "iou_threshold"), -1, "from 0 to 1"),
]


@pytest.mark.parametrize(
    ("place", "value", "words"), WRONG, ids=[f"{'.'.join(map(str, p))}={v}"[:50] for p, v, _ in WRONG]
)
def test_forged_values_are_errors(detector, tmp_path, place, value, words):
    metadata = detector_metadata()
    holder = metadata
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    path = tmp_path / "d.tflite"
    path.write_bytes(
        joined(
            detector.flatbuffer, json.dumps({"format": "resnet_backbones", "version": 1, **metadata}).encode(), False
        )
    )
    with pytest.raises(ValueError, match=words):
        runtime.load(path).predict(np.zeros((64, 96, 3)))


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"format": NaN}', b'{"version": ' + b"9" * 5000 + b"}", b"\xff"])
def test_texts_that_break_parsers_are_errors(detector, tmp_path, text):
    path = tmp_path / "d.tflite"
    path.write_bytes(joined(detector.flatbuffer, text, False))
    with pytest.raises(ValueError, match="damaged"):
        read_metadata(path)


def test_many_anchors_are_refused_before_they_fill_the_memory(tmp_path):
    task = {**detector_metadata()["task"], "num_classes": 5}
    task["anchors"] = {**task["anchors"], "strides": [1, 1], "scales": [1.0] * 64, "aspect_ratios": [1.0] * 64}
    data = onnx_models.answers({"box": np.zeros((5, 4)), "classification": np.zeros((5, 5))})
    described = fuzz_bases.described(task, [1, 64, 64, 3], ["box", "classification"])
    (tmp_path / "d.onnx").write_bytes(append_metadata(data, described, "onnx"))
    with pytest.raises(ValueError, match="at most 4194304"):
        runtime.load(tmp_path / "d.onnx").predict(np.zeros((64, 64, 3)))


def first_constant(model):
    tensors = model.subgraphs[0].tensors
    return next(index for index, tensor in enumerate(tensors) if model.buffers[tensor.buffer].data is not None)


def input_is_constant(model):
    model.subgraphs[0].inputs = [first_constant(model)]


def output_is_missing(model):
    model.subgraphs[0].operators[1].outputs = [-1]


def output_is_constant(model):
    model.subgraphs[0].operators[1].outputs = [first_constant(model)]


def operand_is_missing(model):
    operator = next(operator for operator in model.subgraphs[0].operators if len(operator.inputs) == 2)
    operator.inputs = [operator.inputs[0], -1]


def used_before_computed(model):
    model.subgraphs[0].operators.reverse()


def another_operator(model):
    for code in model.operatorCodes:
        code.builtinCode = code.deprecatedBuiltinCode = 3


def no_values(model):
    model.subgraphs[0].tensors[0].buffer = 1000


def scale_is_missing(model):
    operator = next(operator for operator in model.subgraphs[0].operators if len(operator.inputs) == 3)
    model.subgraphs[0].tensors[operator.outputs[0]].quantization = None


BROKEN = [
    (scale_is_missing, "no scale"),
    (input_is_constant, "which is constant"),
    (output_is_missing, "no tensor -1"),
    (output_is_constant, "which is constant"),
    (operand_is_missing, "uses tensor -1"),
    (used_before_computed, "nothing computes"),
    (another_operator, "the options of another"),
    (no_values, "has no values"),
]


@pytest.mark.parametrize(("change", "words"), BROKEN, ids=[change.__name__ for change, _ in BROKEN])
def test_graphs_that_make_litert_crash_are_refused(detector, tmp_path, change, words):
    from resnet_backbones.export.litert.flatbuffer import read_model, write_model

    path = tmp_path / "m.tflite"
    model = read_model(detector.int8_flatbuffer)
    path.write_bytes(write_model(model))
    verify_tflite(path)
    change(model)
    path.write_bytes(write_model(model))
    with pytest.raises(ValueError, match=words):
        runtime.load(path)


def test_damaged_files_end_in_an_error_or_a_result(detector, tmp_path):
    """A sample of what ``python -m tests.runtime.fuzz_files`` does; docs/reliability.md has more of them."""
    bases = tmp_path / "bases"
    bases.mkdir()
    files = {
        "detector.tflite": append_metadata(detector.flatbuffer, detector_metadata()),
        "detector_int8.tflite": append_metadata(detector.int8_flatbuffer, detector_metadata()),
        **fuzz_bases.onnx_files(),
    }
    fuzz_bases.write(bases, files)
    command = [sys.executable, "-m", "tests.runtime.fuzz_files", "--count", "42", "--seed", "1", "--no-direct"]
    report = tmp_path / "fuzz.json"
    done = subprocess.run([*command, "--bases", bases, "--json", report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads(report.read_text())["cases"]
    assert len(cases) == 42
    kinds = {case["kind"] for case in cases}
    assert not kinds & set(FAULTS)
    assert {"result", "error"} <= kinds
