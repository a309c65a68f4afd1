"""What is in the int8 files, read from the files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.export.litert.flatbuffer import read_model
from resnet_backbones.keras_compat import keras
from tests.support.nets import randomise

layers = keras.layers


def count(model, layer_class):
    return sum(isinstance(layer, layer_class) for layer in model._flatten_layers())


def test_an_int8_resnet50_classifier_has_the_operators_of_its_architecture_and_no_others(classifier, classifier_report):
    kinds = {kind for kind, _ in classifier_report.operators}
    assert kinds <= {
        "CONV_2D", "ADD", "PAD", "MAX_POOL_2D", "MEAN", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"
    }  # fmt: skip
    assert {dtype for _, dtype in classifier_report.operators} == {"int8"}
    assert classifier_report.operators["CONV_2D", "int8"] == count(classifier, layers.Conv2D) == 53
    assert classifier_report.operators["ADD", "int8"] == count(classifier, layers.Add) == 16
    assert classifier_report.int8_mac_share == 1.0
    assert not classifier_report.float_operators


def test_an_int8_classifier_computes_what_keras_does(classifier_report):
    (parity,) = classifier_report.parity
    assert parity.values == 8 * 7
    assert parity.cosine > 0.999
    assert parity.within_two_steps >= 0.99


def test_an_int8_retinanet_is_int8_from_end_to_end(detector_report):
    assert {dtype for _, dtype in detector_report.operators} == {"int8"}
    assert detector_report.int8_mac_share == 1.0
    assert detector_report.operators["CONV_2D", "int8"] == 20 + 8 + 5 * 2 * 4  # backbone, pyramid, heads on five levels
    assert detector_report.operators["ADD", "int8"] == 8 + 2
    # Nothing converts between scales: one tensor has one range, and the levels are not joined in the file.
    kinds = {kind for kind, _ in detector_report.operators}
    assert not kinds & {"QUANTIZE", "MUL", "DEQUANTIZE", "CONCATENATION"}


def test_an_int8_retinanet_computes_what_keras_does(detector_report):
    assert {p.name for p in detector_report.parity} == {"box", "classification"}
    for parity in detector_report.parity:
        assert parity.cosine > 0.999
        assert parity.mean_steps < 1.5


def test_a_bias_that_is_the_same_everywhere_is_quantized_with_each_channel_s_scale(detector, detector_report):
    """The converter uses the first channel's scale for all of such a bias; focal loss starts from one."""
    biases = []
    model = read_model(detector_report.path.read_bytes())
    tensors, buffers = model.subgraphs[0].tensors, model.buffers
    expected = detector.classification_head.prediction_layer.bias.numpy()
    for operator in model.subgraphs[0].operators:
        if tensors[operator.outputs[0]].shape[-1] == len(expected) and len(operator.inputs) == 3:
            bias = tensors[operator.inputs[2]]
            if len(bias.quantization.scale) > 1:
                values = np.frombuffer(bytes(buffers[bias.buffer].data), np.int32)
                biases.append(values * np.asarray(bias.quantization.scale))
    assert len(biases) >= 5
    same = [b for b in biases if np.allclose(b, expected, rtol=1e-3)]
    assert len(same) == 5, "one per pyramid level"


def test_each_pyramid_level_has_its_own_output_and_scale(detector_report):
    loaded = rb.runtime.load(detector_report.path)
    box, classification = loaded.metadata["outputs"]
    assert box["parts"] == [f"box_{i}" for i in range(5)]
    assert classification["parts"] == [f"classification_{i}" for i in range(5)]
    assert box["axis"] == 1


def test_preprocessing_leaves_the_graph_for_the_metadata(detector, detector_report, images):
    facts = rb.runtime.load(detector_report.path).metadata["input"]
    np.testing.assert_allclose([facts["scale"], facts["offset"]], [1 / 127.5, -1.0], rtol=1e-6)
    assert not {"MUL", "SUB"} & {kind for kind, _ in detector_report.operators}


def test_the_file_carries_its_task_and_classes(detector_report):
    metadata = rb.runtime.load(detector_report.path).metadata
    assert metadata["task"]["name"] == "retinanet"
    assert metadata["class_names"] == ["a", "b", "c", "d"]


def test_the_runtime_finds_what_keras_finds(detector, detector_report, images):
    """Same boxes as KerasCV's decoder on the outputs of the file."""
    loaded = rb.runtime.load(detector_report.path)
    raw = loaded.raw(images[:2])
    found = loaded.predict(images[:2], confidence=0.005)
    decoder = detector.prediction_decoder
    before = decoder.confidence_threshold
    decoder.confidence_threshold = 0.005
    try:
        expected = detector.decode_predictions({k: np.asarray(v) for k, v in raw.items()}, images[:2])
    finally:
        decoder.confidence_threshold = before
    for i, detections in enumerate(found):
        kept = int(np.sum(np.asarray(expected["classes"][i]) >= 0))
        assert len(detections.boxes) == kept > 0
        np.testing.assert_allclose(detections.boxes, np.asarray(expected["boxes"][i])[:kept], atol=1e-3)


def test_the_report_prints_and_becomes_json(detector_report):
    deep = Path("a_rather_long_folder", *["deeper"] * 12, "model.tflite")
    text = str(dataclasses.replace(detector_report, path=deep))
    for word in ("CONV_2D", "100.00 % in int8", "classification", "cosine"):
        assert word in text
    facts = json.loads(json.dumps(detector_report.to_dict()))
    assert facts["int8_mac_share"] == 1.0
    assert facts["size_bytes"] == detector_report.path.stat().st_size


def test_what_stays_float_is_named_with_the_reason(images, tmp_path):
    image = layers.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, padding="same", name="first")(image)
    x = layers.Activation("elu", name="elu")(x)
    model = keras.Model(image, layers.Conv2D(4, 1, name="last")(x))
    with pytest.warns(UserWarning, match="elu"):
        rb.quantize_post_training(model, calibration_data=images[:, :32, :32])
    report = rb.export_model(model, tmp_path / "elu.tflite")
    assert report.int8_mac_share == 1.0
    reasons = [reason for reason in report.float_operators.values() if reason.startswith("ELU")]
    assert reasons == ["ELU: activation 'elu' has no int8 form in LiteRT"]


def test_dead_channels_and_blocks_that_start_at_zero_stay_int8(images, tmp_path):
    """A zero scale in a batch norm leaves its channel without a scale to quantize with."""
    backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, 3))
    gamma = backbone.get_layer("stage1_block1_bn2").gamma
    assert not np.any(gamma.numpy()), "a new block starts at zero"
    kernel = backbone.get_layer("stem_conv1").weights[0]
    dead = kernel.numpy()
    dead[..., 3] = 0.0
    kernel.assign(dead)
    batch = images / 127.5 - 1
    rb.quantize_post_training(backbone, calibration_data=batch)
    report = rb.export_model(backbone, tmp_path / "dead.tflite", parity_data=batch)
    assert {dtype for _, dtype in report.operators} == {"int8"}
    assert report.parity[0].cosine > 0.999


def test_an_average_pooled_shortcut_needs_no_change_of_scale(images, tmp_path):
    """LiteRT's average pooling has one scale for what it reads and what it gives."""
    backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, 3))
    randomise(backbone)
    batch = images / 127.5 - 1
    rb.quantize_post_training(backbone, calibration_data=batch)
    report = rb.export_model(backbone, tmp_path / "pooled.tflite", parity_data=batch)
    assert report.operators["AVERAGE_POOL_2D", "int8"] == 3
    assert not {("QUANTIZE", "int8"), ("MUL", "int8")} & set(report.operators)
    assert report.parity[0].cosine > 0.999


def test_depthwise_kernels_are_int8_with_a_scale_a_channel(images, tmp_path):
    image = layers.Input((64, 64, 3))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(image)))
    for strides in (1, 2):
        x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(16, 1, use_bias=False)(x)))
    model = keras.Model(image, x)
    randomise(model)
    spread = np.random.default_rng(0).uniform(0.1, 3.0, 16).astype("float32")
    for layer in model.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            kernel = layer.weights[0]
            kernel.assign(kernel.numpy() * spread[: kernel.shape[2], None])
    batch = images / 127.5 - 1
    rb.quantize_post_training(model, calibration_data=batch)
    report = rb.export_model(model, tmp_path / "depthwise.tflite", parity_data=batch)
    assert report.operators == {("CONV_2D", "int8"): 3, ("DEPTHWISE_CONV_2D", "int8"): 2}
    assert report.parity[0].within_two_steps > 0.999
    assert report.parity[0].mean_steps < 0.05
