"""Whole files: what they hold and what they compute."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.hooks import hooks_of
from resnet_backbones.runtime.files.metadata import read_metadata
from tests.support.nets import randomise

FILES = ("float_detector", "for_tensorrt", "for_runtime", "edge_file")


def kinds(case):
    return Counter(node.op_type for node in case.graph.node)


def producers(graph):
    return {name: node for node in graph.node for name in node.output}


@pytest.mark.parametrize("name", FILES)
def test_file_is_valid_and_carries_its_metadata(name, request):
    case = request.getfixturevalue(name)
    model = onnx.load(case.path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version >= 17
    metadata = read_metadata(case.path)
    assert metadata["input"]["shape"][1:] == [64, 64, 3]


def test_float_file_computes_what_keras_does(float_detector, for_tensorrt):
    """Heads that five levels share among them: a kernel folded or transposed twice would show."""
    for output in float_detector.report.parity:
        assert output.max_steps < 1e-4, output
    assert kinds(float_detector)["Conv"] == kinds(for_tensorrt)["Conv"] == for_tensorrt.report.kernels.compared
    assert not {"BatchNormalization", "Mul", "Pad", "Tile"} & set(kinds(float_detector))


@pytest.mark.parametrize("name", ["for_tensorrt", "for_runtime", "edge_file"])
def test_int8_file_computes_what_the_quantized_model_does(name, request):
    report = request.getfixturevalue(name).report
    assert report.int8_mac_share > 0.99
    for output in report.parity:
        assert output.cosine >= 0.999, output
        assert output.within_two_steps >= 0.99, output


@pytest.mark.parametrize("name", ["for_tensorrt", "for_runtime", "edge_file"])
def test_kernels_are_the_models_own_integers(name, request):
    kernels = request.getfixturevalue(name).report.kernels
    assert kernels.compared == kernels.equal > 0
    assert not kernels.missing
    assert kernels.scale_error < 1e-6


@pytest.mark.parametrize("name", ["for_tensorrt", "for_runtime", "edge_file"])
def test_int8_kernels_feed_their_layers_with_a_scale_a_channel(name, request):
    case = request.getfixturevalue(name)
    made_by, constants = producers(case.graph), case.constants
    for node in case.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        data, kernel = (made_by[tensor] for tensor in node.input[:2])
        assert data.op_type == kernel.op_type == "DequantizeLinear"
        integers, scale, zeros = (constants[entry] for entry in kernel.input)
        axis = next(attribute.i for attribute in kernel.attribute if attribute.name == "axis")
        assert integers.dtype == np.int8
        assert axis == 0
        assert scale.shape == (integers.shape[0],)
        assert np.all(scale > 0)
        assert not zeros.any()


def test_int8_file_is_a_quarter_of_float(float_detector, for_tensorrt, for_runtime):
    for case in (for_tensorrt, for_runtime):
        assert case.report.size_bytes < 0.27 * float_detector.report.size_bytes


def test_tensorrt_file_is_symmetric(for_tensorrt):
    constants = for_tensorrt.constants
    for node in for_tensorrt.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()


def test_tensorrt_file_has_transpositions_at_its_ends_only(for_tensorrt):
    graph = for_tensorrt.graph
    moves = {"Transpose", "Reshape", "QuantizeLinear", "DequantizeLinear", "Concat"}
    following = {name: [n for n in graph.node if name in n.input] for node in graph.node for name in node.output}
    pending = [node for node in graph.node if node.op_type == "Transpose"]
    while pending:
        for reader in following[pending.pop().output[0]]:
            assert reader.op_type in moves
            pending.append(reader)


def test_tensorrt_file_has_no_range_where_layers_fuse(for_tensorrt):
    graph = for_tensorrt.graph
    made_by = producers(graph)
    readers = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type == "Relu" and readers[node.input[0]] == 1:  # P6 is read by a head too, so it has a range
            assert made_by[node.input[0]].op_type in ("Conv", "Add")
    sums = [[made_by[name].op_type for name in node.input] for node in graph.node if node.op_type == "Add"]
    assert sum("Conv" in kinds_of for kinds_of in sums) >= 4  # a residual block each: the last convolution adds


def test_tensorrt_file_keeps_every_documented_rule(for_tensorrt):
    found = rb.export.tensorrt.check(for_tensorrt.path)
    assert found.ok, str(found)
    assert not [finding for finding in found.findings if finding.severity != "info"], str(found)


@pytest.mark.parametrize("scheme", ["gpu_int8", "portable_int8"])
@pytest.mark.parametrize("case", ["yolo_v8", "hard_sigmoid"])
def test_splits_and_hard_sigmoids_keep_every_rule_too(case, scheme, pictures, tmp_path):
    keras.utils.set_random_seed(0)
    if case == "yolo_v8":
        backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, 3), preprocessing="minus_one_to_one")
        model = rb.adapters.keras_cv.yolo_v8_detector(backbone, num_classes=3, bounding_box_format="xywh", fpn_depth=1)
    else:
        model = rb.create_backbone("mobilenetv3_small_050", input_shape=(64, 64, 3), preprocessing="minus_one_to_one")
    rb.quantize_post_training(randomise(model), scheme, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "model.onnx", parity_data=pictures[:2])
    found = rb.export.tensorrt.check(report.path)
    assert not found.of("error"), str(found)
    assert report.kernels.compared == report.kernels.equal > 0
    assert not report.kernels.missing


def test_onnx_runtime_computes_in_integers(for_runtime, edge_file, tmp_path):
    for number, case in enumerate((for_runtime, edge_file)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{number}.onnx")
        onnxruntime.InferenceSession(str(case.path), options, providers=["CPUExecutionProvider"])
        run = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
        assert run["QLinearConv"] == kinds(case)["Conv"]
        floats = {"Conv", "FusedConv", "Add", "Mul", "Relu", "Clip", "Sigmoid", "HardSigmoid", "GlobalAveragePool"}
        assert not floats & set(run)


def test_dynamic_batch_and_layout(for_runtime, for_tensorrt, pictures):
    session = onnxruntime.InferenceSession(str(for_runtime.path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 64, 64, 3]
    (together,) = session.run(["box"], {"images": pictures})
    apart = [session.run(["box"], {"images": pictures[i : i + 1]})[0] for i in range(len(pictures))]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=1e-5)
    session = onnxruntime.InferenceSession(str(for_tensorrt.path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, 64, 64]


def test_half_precision_keeps_float32_ends(edge_backbone, pictures, tmp_path):
    report = rb.export_model(edge_backbone, tmp_path / "half.onnx", precision="float16", parity_data=pictures)
    graph = onnx.load(tmp_path / "half.onnx").graph
    assert all(end.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for end in [*graph.input, *graph.output])
    stored = Counter(entry.data_type for entry in graph.initializer if len(entry.dims) == 4)
    assert set(stored) == {onnx.TensorProto.FLOAT16}
    assert report.parity[0].cosine > 0.9999


def test_quantization_is_left_as_it_was(portable_detector, for_tensorrt, for_runtime, pictures):
    """After an export the model computes what it did: nothing replaced for tracing stays."""
    assert all("call" in hook.layer.__dict__ for hook in hooks_of(portable_detector))
    first = portable_detector(pictures[:1], training=False)["box"]
    again = portable_detector(pictures[:1], training=False)["box"]
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))


def test_the_tensorrt_check_of_a_file_for_onnx_runtime_says_one_thing(edge_file):
    (finding,) = rb.export.tensorrt.check(edge_file.path).findings
    assert finding.severity == "error"
    assert "the form for ONNX Runtime" in finding.message
    assert "--target tensorrt" in finding.message
