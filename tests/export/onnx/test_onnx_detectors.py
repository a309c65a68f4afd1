"""Whole detectors as ONNX files that post-process: against the runtime on the same network's outputs, and KerasCV."""

from __future__ import annotations

import os
from collections import Counter

import keras_cv
import numpy as np
import onnx
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.detections import assert_same_detections
from tests.support.nets import randomise

from .conftest import SPEC

OUTPUTS = ["boxes", "classes", "scores", "count"]
MOST = 40  # detections an image


def randomise_last(layers, spread):
    for layer in layers:
        layer.kernel.assign(5 * layer.kernel.numpy())
        layer.bias.assign(np.random.default_rng(0).normal(0, spread, layer.bias.shape))


def make_retinanet(kind, **thresholds):
    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3))
    randomise(backbone)
    decoder = getattr(keras_cv.layers, kind)("xywh", from_logits=True, max_detections=MOST, **thresholds)
    model = rb.adapters.keras_cv.retinanet(backbone, 4, "xywh", head_depth=1, prediction_decoder=decoder)
    randomise_last([model.classification_head.prediction_layer, model.box_head.prediction_layer], 1.0)
    return model


@pytest.fixture(scope="module")
def retinanet():
    return make_retinanet("NonMaxSuppression", iou_threshold=0.3, confidence_threshold=0.75)


@pytest.fixture(scope="module")
def retinanet_results(retinanet, pictures, tmp_path_factory):
    return both(retinanet, pictures, tmp_path_factory.mktemp("retinanet"), batch=2)


@pytest.fixture(scope="module")
def yolo_v8():
    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3))
    decoder = keras_cv.layers.MultiClassNonMaxSuppression(
        "xyxy", from_logits=False, max_detections=MOST, iou_threshold=0.4, confidence_threshold=0.5
    )
    model = rb.adapters.keras_cv.yolo_v8_detector(backbone, 4, "xyxy", fpn_depth=1, prediction_decoder=decoder)
    randomise(model)
    last = [model.get_layer(f"yolo_v8_head_{n}_{part}_3_conv") for n in (1, 2, 3) for part in ("box", "class")]
    randomise_last(last, 1.0)
    return model


@pytest.fixture(scope="module")
def gpu_detector(pictures):
    model = make_retinanet("NonMaxSuppression", iou_threshold=0.3, confidence_threshold=0.75)
    rb.quantize_post_training(model, "gpu_int8", calibration_data=pictures)
    return model


def both(model, images, folder, **options):
    """The report of the file that post-processes, what it finds, and what the runtime finds with one that does not."""
    report = rb.export_model(model, folder / "found.onnx", postprocessing=True, parity_data=images, **options)
    bare = rb.export_model(model, folder / "bare.onnx", **options)
    return report, *(rb.runtime.load(path).predict(images) for path in (report.path, bare.path))


def assert_all_same(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == len(theirs) > 3
        assert ours.box_format == theirs.box_format
        assert_same_detections(ours, theirs.classes, theirs.scores, theirs.boxes)


def assert_keras_cv_agrees(model, found, images):
    """Keras computes the network here, so scores and boxes differ by its roundings."""
    theirs = model.decode_predictions(model(images, training=False), tf.constant(images))
    theirs = {name: np.asarray(value) for name, value in theirs.items()}
    for index, ours in enumerate(found):
        count = theirs["num_detections"][index]
        assert len(ours) == count
        np.testing.assert_array_equal(ours.classes, theirs["classes"][index][:count])
        np.testing.assert_allclose(ours.scores, theirs["confidence"][index][:count], atol=1e-4)
        np.testing.assert_allclose(ours.boxes, theirs["boxes"][index][:count], atol=1e-2)


def test_a_retinanets_file_finds_what_runtime_and_keras_cv_find(retinanet, retinanet_results, pictures):
    report, found, expected = retinanet_results
    assert report.passed
    assert {entry.name for entry in report.parity} == {"box", "classification"}, "the network's own outputs"
    assert_all_same(found, expected)
    assert min(len(one) for one in found) < MOST, "some places are left empty"
    assert_keras_cv_agrees(retinanet, found, pictures)
    exits = onnx.load(report.path).graph.output
    shapes = [[size.dim_value for size in entry.type.tensor_type.shape.dim] for entry in exits]
    assert [entry.name for entry in exits] == OUTPUTS
    assert shapes == [[2, MOST, 4], [2, MOST], [2, MOST], [2]]


def test_a_yolo_v8s_file_finds_what_runtime_and_keras_cv_find(yolo_v8, pictures, tmp_path):
    options = {"batch": None, "layout": "NHWC", "target": "onnxruntime"}
    report, found, expected = both(yolo_v8, pictures, tmp_path, **options)
    assert report.passed
    assert {entry.name for entry in report.parity} == {"boxes", "classes"}, "the network's own outputs"
    assert_all_same(found, expected)
    assert_keras_cv_agrees(yolo_v8, found, pictures)
    assert rb.runtime.load(report.path).raw(pictures[:3])["boxes"].shape == (3, MOST, 4)


def test_an_int8_file_for_tensorrt_post_processes_in_float_and_keeps_every_rule(gpu_detector, pictures, tmp_path):
    report, found, expected = both(gpu_detector, pictures, tmp_path)
    assert all(output.cosine > 0.999 for output in report.parity)
    assert report.kernels.equal == report.kernels.compared > 0
    assert_all_same(found, expected)
    check = rb.export.tensorrt.check(report.path)
    assert check.ok, str(check)
    assert not [finding for finding in check.findings if finding.severity != "info"], str(check)
    graph, whole = onnx.load(tmp_path / "bare.onnx").graph, onnx.load(report.path).graph
    kinds, before = (Counter(node.op_type for node in one.node) for one in (whole, graph))
    for kind in ("QuantizeLinear", "DequantizeLinear", "Conv"):
        assert kinds[kind] == before[kind]


def test_an_int8_yolo_v8_for_onnx_runtime_post_processes_in_float(yolo_v8, pictures, tmp_path):
    rb.quantize_post_training(yolo_v8, "portable_int8", calibration_data=pictures)
    options = {"batch": None, "layout": "NHWC", "target": "onnxruntime"}
    report, found, expected = both(yolo_v8, pictures, tmp_path, **options)
    assert report.passed, report.failures
    assert_all_same(found, expected)
    floats = {kind for kind, dtype in report.operators if dtype == "float32"}
    assert floats >= {"Softmax", "Mul", "ReduceSum", "NonMaxSuppression", "TopK"}
    assert report.operators["Softmax", "float32"] == report.operators["NonMaxSuppression", "float32"] == 1
    reasons = {tensor: why for tensor, why in report.float_operators.items() if tensor.startswith("postprocessing/")}
    assert reasons["postprocessing/Softmax"] == "Softmax: it decodes and suppresses boxes, in float"


def test_half_precision_post_processes_in_float32(retinanet, pictures, tmp_path):
    _, found, expected = both(retinanet, pictures[:1], tmp_path, precision="float16")
    assert_all_same(found, expected)


def test_openvino_finds_the_same(retinanet_results, pictures):
    report, found, _ = retinanet_results
    assert_all_same(rb.runtime.load(report.path, backend="openvino").predict(pictures), found)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_what_cannot_be_decoded_is_refused(retinanet, tmp_path):
    image = keras.layers.Input((32, 32, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(ValueError, match=r"for detectors.*its task is 'tensors', known are retinanet and yolo_v8"):
        rb.export_model(model, tmp_path / "m.onnx", postprocessing=True)
    vector = keras.layers.Input((8,))
    with pytest.raises(ValueError, match="for detectors"):
        rb.export_model(keras.Model(vector, keras.layers.Dense(2)(vector)), tmp_path / "m.onnx", postprocessing=True)
    assert not os.listdir(tmp_path)


def test_suppression_that_an_engine_lacks_is_refused(tmp_path):
    class SoftSuppression(keras.layers.Layer):
        bounding_box_format, max_detections = "xywh", 5000

    model = make_retinanet("NonMaxSuppression")
    model.prediction_decoder = SoftSuppression()
    with pytest.raises(ValueError, match=r"cannot do the SoftSuppression .*Set model\.prediction_decoder"):
        rb.export_model(model, tmp_path / "m.onnx", postprocessing=True)
    model.prediction_decoder = type("NonMaxSuppression", (SoftSuppression,), {})()
    with pytest.raises(ValueError, match="TensorRT picks at most 3839 detections .* asks for 5000"):
        rb.export_model(model, tmp_path / "m.onnx", postprocessing=True)
    assert not os.listdir(tmp_path)
