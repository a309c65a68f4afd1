"""Each rule finds what breaks it, and finds nothing in a good file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import resnet_backbones as rb
from resnet_backbones.export.tensorrt import rules
from resnet_backbones.export.tensorrt.findings import SEVERITIES
from tests.support.processes import run_python

from .good_graph import Builder, good_model
from .mutations import MUTATIONS

GOOD = good_model()
BASELINE = {("in-int8", "head", "info"), ("average-pool", "mean", "info")}


@pytest.fixture
def model():
    copy = onnx.ModelProto()
    copy.CopyFrom(GOOD)
    return copy


def found(report):
    return {(one.rule, one.node, one.severity) for one in report.findings}


def test_the_good_model_is_a_real_one():
    import onnxruntime

    session = onnxruntime.InferenceSession(GOOD.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    (scores,) = session.run(None, {"image": image})
    assert scores.shape == (2, 5)
    assert np.ptp(scores[0] - scores[1]) > 1e-3  # it computes something


def test_the_good_model_passes_and_its_layers_are_counted():
    report = rb.export.tensorrt.check(GOOD)
    assert report.ok
    assert found(report) == BASELINE
    assert report.fused == {"Conv in int8": 6, "Gemm in float": 1, "Add in a convolution": 2}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_file_broken_in_one_way_is_caught_by_that_rule(mutation, model, tmp_path):
    source = mutation.breaks(model, tmp_path) or model
    report = rb.export.tensorrt.check(source)
    caught = [one for one in report.findings if one.rule == mutation.rule and one.severity == mutation.severity]
    assert mutation.at in {one.node for one in caught}, report
    assert report.ok == (not any(one.severity == "error" for one in report.findings))
    new = {rule for rule, _, _ in found(report) - BASELINE}
    assert new <= {mutation.rule, *mutation.also}, report


@pytest.mark.parametrize("rule", rules.RULES)
def test_every_rule_has_a_mutation(rule):
    assert rule in {one.rule for one in MUTATIONS}


@pytest.mark.parametrize("rule", rules.RULES.values(), ids=lambda one: one.name)
def test_every_rule_says_why_and_where_it_is_documented(rule):
    assert rule.reason.endswith(".")
    assert "\n" not in rule.reason
    assert rule.source.url.startswith(("https://docs.nvidia.com/", "https://github.com/onnx/onnx-tensorrt/"))


# --- what is allowed -----------------------------------------------------------------------------------------------


def _io(name, *dims):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def transposed_at_the_ends():
    b = Builder()
    x = b.conv("conv", b.pair(b.node("Transpose", "turn", "image", perm=[0, 3, 1, 2])), (3, 8))
    b.node("Transpose", "out", b.node("Relu", "relu", x), perm=[0, 2, 3, 1])
    return b.model([_io("image", 1, 8, 8, 3)], [_io("out", 1, 8, 8, 8)])


def silu_and_pooling_in_int8():
    b = Builder()
    x = b.conv("conv", b.pair("image"), (3, 8))
    x = b.node("Mul", "silu", x, b.node("Sigmoid", "sigmoid", x))
    x = b.pair(b.node("AveragePool", "mean", b.pair(x), kernel_shape=[2, 2], strides=[2, 2]))
    b.conv("out", x, (8, 4))
    return b.model([_io("image", 1, 3, 8, 8)], [_io("out", 1, 4, 4, 4)])


def one_quantized_tensor_with_a_dq_for_each_reader():
    b = Builder()
    first = b.conv("one", b.pair("image"), (3, 3))
    b.node("DequantizeLinear", "second dq", "image/q", "image/scale", "zero")
    b.node("Add", "out", first, "second dq")
    return b.model([_io("image", 1, 3, 8, 8)], [_io("out", 1, 3, 8, 8)])


def transposed_convolution():
    b = Builder()
    kernel = b.kernel("up", (3, 6, 2, 2), axis=1)
    b.node("ConvTranspose", "up", b.pair("image"), kernel, strides=[2, 2])
    return b.model([_io("image", 1, 3, 8, 8)], [_io("up", 1, 6, 16, 16)])


def matrix_products():
    b = Builder()
    x = b.node("MatMul", "one", b.pair("image"), b.kernel("one", (8, 6), axis=1))
    b.node("Gemm", "two", b.pair(x), b.kernel("two", (4, 6), axis=0), transB=1)
    return b.model([_io("image", 1, 8)], [_io("two", 1, 4)])


def pyramid_with_nearest_upsampling():
    b = Builder()
    scales = b.constant("scales", np.float32([1, 1, 2, 2]))
    deep = b.pair(b.conv("deep", b.pair("small"), (4, 4)))
    up = b.node("Resize", "up", deep, "", scales, mode="nearest")
    b.node("Add", "out", b.conv("lateral", b.pair("large"), (4, 4)), up)
    return b.model([_io("small", 1, 4, 4, 4), _io("large", 1, 4, 8, 8)], [_io("out", 1, 4, 8, 8)])


def one_kernel_for_two_levels():
    b = Builder()
    kernel = b.kernel("head", (4, 4, 3, 3))
    for level in ("small", "large"):
        b.node("Conv", f"{level} head", b.pair(level), kernel, pads=[1, 1, 1, 1])
    outputs = [_io("small head", 1, 4, 4, 4), _io("large head", 1, 4, 8, 8)]
    return b.model([_io("small", 1, 4, 4, 4), _io("large", 1, 4, 8, 8)], outputs)


def convolution_read_by_more_than_its_activation():
    """The sixth level of a feature pyramid: heads read it, and the seventh level reads its ReLU."""
    b = Builder()
    x = b.pair(b.conv("six", b.pair("image"), (3, 4)))
    b.conv("head", x, (4, 4))
    b.conv("seven", b.pair(b.node("Relu", "relu", x)), (4, 4))
    return b.model([_io("image", 1, 3, 8, 8)], [_io("head", 1, 4, 8, 8), _io("seven", 1, 4, 8, 8)])


def silu_of_a_joined_tensor():
    b = Builder()
    x = b.node("Concat", "join", b.conv("one", b.pair("image"), (3, 4)), b.conv("two", "image/dq", (3, 4)), axis=1)
    x = b.pair(x)
    b.conv("out", b.pair(b.node("Mul", "silu", x, b.node("Sigmoid", "sigmoid", x))), (8, 4))
    return b.model([_io("image", 1, 3, 8, 8)], [_io("out", 1, 4, 8, 8)])


@pytest.mark.parametrize(
    ("build", "fused"),
    [
        (transposed_at_the_ends, {"Conv in int8": 1}),
        (silu_and_pooling_in_int8, {"Conv in int8": 2}),
        (one_quantized_tensor_with_a_dq_for_each_reader, {"Conv in int8": 1, "Add in a convolution": 1}),
        (transposed_convolution, {"ConvTranspose in int8": 1}),
        (matrix_products, {"MatMul in int8": 1, "Gemm in int8": 1}),
        (pyramid_with_nearest_upsampling, {"Conv in int8": 2, "Add in a convolution": 1}),
        (convolution_read_by_more_than_its_activation, {"Conv in int8": 3}),
        (one_kernel_for_two_levels, {"Conv in int8": 2}),
        (silu_of_a_joined_tensor, {"Conv in int8": 3}),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_what_is_allowed_passes(build, fused):
    report = rb.export.tensorrt.check(build())
    assert not report.findings, report
    assert report.fused == fused


def flattened_before_a_product():
    b = Builder()
    x = b.pair(b.node("Relu", "relu", b.conv("conv", b.pair("image"), (3, 4))))
    x = b.node("Transpose", "turn", x, perm=[0, 2, 3, 1])
    x = b.node("Reshape", "flat", x, b.constant("to", np.int64([1, -1])))
    b.node("Gemm", "out", x, b.kernel("out", (5, 256), axis=0), transB=1)
    return b.model([_io("image", 1, 3, 8, 8)], [_io("out", 1, 5)])


def shuffled_channels():
    b = Builder()
    x = b.pair(b.conv("conv", b.pair("image"), (3, 4)))
    x = b.node("Reshape", "apart", x, b.constant("groups", np.int64([1, 2, 2, 8, 8])))
    x = b.node("Transpose", "turn", x, perm=[0, 2, 1, 3, 4])
    b.conv("out", b.node("Reshape", "together", x, b.constant("whole", np.int64([1, 4, 8, 8]))), (4, 4))
    return b.model([_io("image", 1, 3, 8, 8)], [_io("out", 1, 4, 8, 8)])


def rows_and_columns_exchanged():
    b = Builder()
    x = b.node("Transpose", "turn", b.pair(b.conv("conv", b.pair("image"), (3, 4))), perm=[0, 1, 3, 2])
    b.conv("out", x, (4, 4))
    return b.model([_io("image", 1, 3, 8, 8)], [_io("out", 1, 4, 8, 8)])


@pytest.mark.parametrize("build", [flattened_before_a_product, shuffled_channels, rows_and_columns_exchanged])
def test_what_the_model_itself_transposes_is_information(build):
    report = rb.export.tensorrt.check(build())
    assert found(report) == {("transpose", "turn", "info")}, report


def _turned_back_behind(*between):
    """A transposition, operators that work in any order of axes, and the one that undoes the first."""
    b = Builder()
    x = b.node("Transpose", "turn", b.conv("conv", b.pair("image"), (3, 4)), perm=[0, 2, 3, 1])
    for op in between:
        if op == "Add":
            x = b.node(op, op, x, b.constant("slopes", np.ones((8, 8, 4), np.float32)))
        elif op == "Concat":
            x = b.node(op, op, x, x, axis=3)
        else:
            x = b.pair(x) if op == "pair" else b.node(op, op, x)
    x = b.pair(b.node("Transpose", "back", x, perm=[0, 3, 1, 2]))
    b.conv("out", x, (8 if "Concat" in between else 4, 4))
    return b.model([_io("image", 1, 3, 8, 8)], [_io("out", 1, 4, 8, 8)])


@pytest.mark.parametrize("between", [(), ("Relu",), ("pair",), ("Add", "Relu"), ("Sigmoid", "Concat"), ("Abs", "pair")])
def test_transpositions_that_undo_each_other_are_an_error(between):
    report = rb.export.tensorrt.check(_turned_back_behind(*between))
    assert ("transpose", "turn", "error") in found(report), report


@pytest.mark.parametrize(
    ("build", "node", "axis"), [(transposed_convolution, "up/kernel/dq", 0), (matrix_products, "two/kernel/dq", 1)]
)
def test_each_layout_has_its_own_axis(build, node, axis):
    model = build()
    dq = next(one for one in model.graph.node if one.name == node)
    dq.attribute[0].i = axis
    assert "per-channel" in {one.rule for one in rb.export.tensorrt.check(model).of("error")}


# --- the report, and what goes wrong -------------------------------------------------------------------------------


def test_the_report_prints_worst_first_and_goes_into_json(model, tmp_path):
    for mutation in MUTATIONS:
        if mutation.breaks.__name__ in ("dead_channel", "float_average", "both_branches_quantized"):
            mutation.breaks(model, tmp_path)
    onnx.save(model, str(tmp_path / "broken.onnx"))
    report = rb.export.tensorrt.check(tmp_path / "broken.onnx")
    severities = [SEVERITIES.index(one.severity) for one in report.findings]
    assert severities == sorted(severities)
    text = str(report)
    assert "broken.onnx" in text
    assert "not ok" in text
    for node in ("one/conv1/kernel/dq", "mean", "two/add"):
        assert node in text
    written = json.loads(json.dumps(report.to_dict()))
    assert written["ok"] is False
    assert written["findings"][0].keys() == {"rule", "node", "message", "severity"}


def test_names_with_brackets_are_printed_as_they_are(model):
    next(one for one in model.graph.node if one.name == "head").name = "[bold]head"
    assert "[bold]head" in str(rb.export.tensorrt.check(model))


def test_what_is_no_onnx_file_is_an_error_that_says_so(tmp_path):
    (tmp_path / "cut.onnx").write_bytes(GOOD.SerializeToString()[:1000])
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("cut.onnx", "empty.onnx"):
        with pytest.raises(ValueError, match="cut short"):
            rb.export.tensorrt.check(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        rb.export.tensorrt.check(tmp_path / "none.onnx")


def test_what_is_no_ordinary_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder.onnx").mkdir()
    for name in ("pipe.onnx", "folder.onnx"):
        with pytest.raises(ValueError, match="not an ONNX file"):
            rb.export.tensorrt.check(tmp_path / name)


def test_damaged_files_are_an_error_or_a_report_and_nothing_else(tmp_path):
    """Bits turned in names, types, sizes and values."""
    random = np.random.default_rng(0)
    whole = np.frombuffer(GOOD.SerializeToString(), np.uint8)
    outcomes = []
    for _ in range(300):
        damaged = whole.copy()
        damaged[random.integers(len(damaged), size=3)] ^= (1 << random.integers(8, size=3)).astype(np.uint8)
        (tmp_path / "damaged.onnx").write_bytes(damaged.tobytes())
        try:
            outcomes.append(rb.export.tensorrt.check(tmp_path / "damaged.onnx").ok)
        except ValueError as error:
            outcomes.append(str(error).rpartition(". ")[2])
    assert set(outcomes) <= {True, False, "Copy or export it again.", "Copy or export the file again."}
    assert {True, False, "Copy or export it again."} <= set(outcomes)


def test_checking_imports_no_tensorflow(tmp_path):
    onnx.save(GOOD, str(tmp_path / "good.onnx"))
    code = (
        "import sys, resnet_backbones as rb; "
        "report = rb.export.tensorrt.check(sys.argv[1]); "
        "print(report.ok, sorted({'tensorflow', 'keras', 'tf_keras', 'onnxruntime'} & set(sys.modules)))"
    )
    assert run_python(code, tmp_path / "good.onnx") == "True []"


def test_the_documentation_holds_the_table_of_rules():
    page = (Path(__file__).resolve().parents[3] / "docs" / "tensorrt.md").read_text(encoding="utf-8")
    table = page.split("<!-- rules: begin -->\n")[1].split("<!-- rules: end -->")[0]
    assert table.strip() == rules.rules_markdown().strip(), (
        "docs/tensorrt.md is out of date: put in what `python -m resnet_backbones.export.tensorrt.rules` prints"
    )
