"""Choices of a LiteRT file: batches, weights in int8 beside float data, images resized and rescaled in the file."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.runtime import read_metadata
from tests.support.nets import images, randomise

layers = keras.layers


def small_net(dilation=1):
    """Rescaling, convolutions, a transposed one, a sum, a mean and a dense layer."""
    image = layers.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(image)

    def conv(x, **arguments):
        x = layers.Conv2D(8, 3, padding="same", use_bias=False, **arguments)(x)
        return layers.ReLU()(layers.BatchNormalization()(x))

    x = conv(x)
    x = layers.ReLU()(layers.Add()([x, conv(x, dilation_rate=dilation)]))
    x = layers.Conv2DTranspose(6, 3, 2, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomise(keras.Model(image, layers.Dense(5, name="logits")(x)))


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


@pytest.fixture(scope="module")
def float_net():
    keras.utils.set_random_seed(0)
    return small_net()


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    model = small_net(dilation=2)
    return rb.quantize_post_training(model, calibration_data=pixels(8, 16, 16, 3))


def run_in_litert(path, batch):
    """The file on a whole batch at once."""
    interpreter = Interpreter(model_path=str(path))
    (entry,) = interpreter.get_input_details()
    if list(entry["shape"]) != list(batch.shape):
        interpreter.resize_tensor_input(entry["index"], batch.shape, strict=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], batch.astype(entry["dtype"]))
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    return interpreter.get_tensor(output["index"])


def test_an_int8_file_takes_any_number_of_images_and_gives_each_what_it_gives_alone(net, tmp_path):
    one = rb.export_model(net, tmp_path / "one.tflite")
    batch = pixels(8, 16, 16, 3)
    many = rb.export_model(net, tmp_path / "any.tflite", batch=None, parity_data=batch)
    assert many.int8_mac_share == 1.0
    assert {dtype for _, dtype in many.operators} == {"int8", "int32"}, "int32 computes shapes"
    assert not {kind for kind, _ in many.operators} & {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"}
    assert many.passed
    integers = np.random.default_rng(0).integers(-128, 128, (3, 16, 16, 3))
    alone = [run_in_litert(one.path, integers[i : i + 1]) for i in range(3)]
    np.testing.assert_array_equal(run_in_litert(many.path, integers), np.concatenate(alone))
    assert read_metadata(many.path)["input"]["shape"] == [None, 16, 16, 3]


@pytest.mark.parametrize("kind", [layers.DepthwiseConv2D, lambda *a, **k: layers.SeparableConv2D(8, *a, **k)])
def test_dilated_depthwise_convolutions_of_any_number_of_images_are_int8(kind, tmp_path):
    keras.utils.set_random_seed(0)
    stack = [
        layers.Conv2D(8, 3),
        kind(3, dilation_rate=(2, 3), activation="relu", bias_initializer="normal"),
        layers.Conv2D(4, 1),
    ]
    model = rb.quantize_post_training(
        keras.Sequential([layers.Input((16, 16, 3)), *stack]), calibration_data=pixels(8, 16, 16, 3)
    )
    report = rb.export_model(model, tmp_path / "any.tflite", batch=None, parity_data=pixels(3, 16, 16, 3))
    assert {kind for kind, _ in report.operators} == {"CONV_2D", "DEPTHWISE_CONV_2D"}
    assert report.passed, report.failures


def test_a_file_takes_a_fixed_number_of_images(net, tmp_path):
    report = rb.export_model(net, tmp_path / "four.tflite", batch=4, parity_data=pixels(6, 16, 16, 3))
    assert report.passed, report.failures
    assert report.parity[0].values == 6 * 5
    assert run_in_litert(report.path, np.zeros((4, 16, 16, 3))).shape == (4, 5)
    assert {dtype for _, dtype in report.operators} == {"int8"}


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_a_batch_is_a_whole_number_or_none(net, batch, tmp_path):
    with pytest.raises(ValueError, match="None for any number"):
        rb.export_model(net, tmp_path / "m.tflite", batch=batch)
    assert not os.listdir(tmp_path)


def test_dynamic_range_stores_int8_weights_and_computes_in_float(tmp_path):
    image = layers.Input((16, 16, 32))
    model = keras.Model(image, layers.Conv2D(64, 3, name="large")(image))
    batch = images(2, 16, 16, 32)
    full = rb.export_model(model, tmp_path / "f.tflite")
    report = rb.export_model(model, tmp_path / "d.tflite", precision="dynamic_range", parity_data=batch)
    assert report.size_bytes < 0.35 * full.size_bytes
    assert report.operators == {("CONV_2D", "float32"): 1}
    assert report.int8_mac_share == 0.0
    assert 0.999 < report.parity[0].cosine < 1.0
    assert report.passed


@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
def test_a_float_file_resizes_and_rescales_images_itself(float_net, size, tmp_path):
    asked = True if size == (16, 16) else size
    report = rb.export_model(
        float_net, tmp_path / "p.tflite", preprocessing=asked, batch=None, parity_data=pixels(3, *size, 3)
    )
    assert report.parity[0].max_steps < 1e-4
    assert (("RESIZE_BILINEAR", "float32") in report.operators) == (size != (16, 16))
    facts = read_metadata(report.path)["input"]
    assert facts["shape"] == [None, *size, 3]
    assert (facts["scale"], facts["offset"]) == (1.0, 0.0)
    assert facts.get("network_size") == (None if size == (16, 16) else [16, 16])


@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
def test_an_int8_file_takes_pixels_as_uint8_and_prepares_them_in_integers(net, size, tmp_path):
    batch = pixels(4, *size, 3).round()
    report = rb.export_model(net, tmp_path / "p.tflite", preprocessing=size, parity_data=batch)
    assert {dtype for _, dtype in report.operators} == {"int8", "uint8"}
    assert report.int8_mac_share == 1.0
    assert report.passed, report.failures
    (entry,) = Interpreter(model_path=str(report.path)).get_input_details()
    assert entry["dtype"] is np.uint8
    assert entry["quantization"] == (1.0, 0), "pixels are their own integers"
    expected = rb.runtime.load(report.path).raw(batch[:1])["output"]
    (output,) = Interpreter(model_path=str(report.path)).get_output_details()
    scale, zero = output["quantization"]
    found = (run_in_litert(report.path, batch[:1]).astype("float32") - zero) * scale
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_options_of_other_formats_are_refused(float_net, tmp_path):
    with pytest.raises(ValueError, match="layout= cannot be chosen for format 'litert'"):
        rb.export_model(float_net, tmp_path / "m.tflite", layout="NCHW")
    with pytest.raises(ValueError, match="batch= cannot be chosen for format 'keras'; formats with it: litert"):
        rb.export_model(float_net, tmp_path / "m.keras", batch=None)
    with pytest.raises(ValueError, match=r"height, width"):
        rb.export_model(float_net, tmp_path / "m.tflite", preprocessing=(0, 16))
    with pytest.raises(ValueError, match="format='bin' is not one of 'litert'"):
        rb.export_model(float_net, tmp_path / "m.tflite", format="bin")
    with pytest.raises(ValueError, match="give some as parity_data"):
        rb.export_model(float_net, tmp_path / "m.tflite", layers=True)
    with pytest.raises(ValueError, match="layers= cannot be chosen for format 'keras'"):
        rb.export_model(float_net, tmp_path / "m.keras", layers=True, parity_data=pixels(1, 16, 16, 3))
    assert not os.listdir(tmp_path)


def test_int16_is_a_precision_of_its_own(tmp_path):
    image = layers.Input((8, 8, 3))
    model = keras.Model(image, layers.Conv2D(4, 3, name="conv")(image))
    rb.quantize_post_training(model, "edge_int16x8", calibration_data=images(4, 8, 8, 3))
    with pytest.raises(ValueError, match="makes int16x8 files, not int8. Quantize it with 'edge_int8'"):
        rb.export_model(model, tmp_path / "m.tflite", precision="int8")
    with pytest.raises(ValueError, match="leave preprocessing out"):
        rb.export_model(model, tmp_path / "m.tflite", preprocessing=(16, 16))
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=images(4, 8, 8, 3))
    assert report.precision == "int16x8"
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True
