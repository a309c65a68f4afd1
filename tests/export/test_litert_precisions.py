"""Kernels of 4 bits and activations of 16, in the file and as LiteRT runs them; what it cannot hold is an error."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import resnet_backbones as rb
from resnet_backbones.export.litert.flatbuffer import read_model
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import Scheme
from tests.support.nets import images, randomise

layers = keras.layers
KERNEL_TYPES = {schema.TensorType.INT4: "int4", schema.TensorType.INT8: "int8"}
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def kernel_types(path):
    """Types of the constant tensors of rank 4 and 2 with a scale a channel."""
    model = read_model(path.read_bytes())
    constants = [t for t in model.subgraphs[0].tensors if model.buffers[t.buffer].data is not None]
    kernels = [t for t in constants if len(t.shape) in (2, 4) and t.quantization and t.quantization.scale is not None]
    return [KERNEL_TYPES[t.type] for t in kernels]


def small_net(last=None):
    """A residual block, a depthwise, a transposed convolution and a dense layer."""
    image = layers.Input((16, 16, 3))

    def conv(x, filters=8, activation=True, **arguments):
        x = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", use_bias=False, **arguments)(x))
        return layers.ReLU()(x) if activation else x

    x = conv(image, name="stem")
    x = layers.ReLU()(layers.Add(name="add")([x, conv(conv(x), activation=False)]))
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    x = layers.Conv2DTranspose(6, 3, 2, padding="same", activation="relu")(layers.AveragePooling2D(2)(x))
    if last is not None:
        x = last(x)
    return randomise(keras.Model(image, layers.Dense(5, name="logits")(x)))


def exported(model, path, scheme, **arguments):
    batch = images(8, 16, 16, 3)
    rb.quantize_post_training(model, scheme, calibration_data=batch, **arguments)
    return rb.export_model(model, path / "it.tflite", parity_data=batch)


def test_kernels_of_four_bits_are_int4_in_the_file(tmp_path):
    report = exported(small_net(), tmp_path, Scheme("w4", kernel_bits=4))
    assert {dtype for _, dtype in report.operators} == {"int8"}
    assert kernel_types(report.path).count("int4") == 3, "the plain convolutions'"
    (parity,) = report.parity
    assert parity.cosine > 0.999
    assert parity.within_two_steps >= 0.99
    assert report.to_dict()["kernels"]["of_four_bits"] == 3
    assert "3 kernels have 4 bits. Kernels of 4 bits make a .tflite smaller, not faster" in str(report)
    with pytest.raises(ValueError, match="kernels of 4 bits, which OpenVINO cannot load.*backend='litert'"):
        rb.runtime.load(report.path, "openvino")


@pytest.mark.parametrize("bits", [3, 6])
def test_kernels_of_other_bits_are_held_in_eight(bits, tmp_path):
    report = exported(small_net(), tmp_path, Scheme("few", kernel_bits=bits))
    assert set(kernel_types(report.path)) == {"int8"}
    assert report.kernels.of_four_bits == 0
    assert "4 bits" not in str(report)
    assert report.parity[0].cosine > 0.999
    assert report.parity[0].within_two_steps >= 0.99


def test_activations_of_sixteen_bits_run_in_int16_from_end_to_end(tmp_path):
    report = exported(small_net(), tmp_path, "edge_int16x8")
    assert {dtype for _, dtype in report.operators} == {"int16"}
    assert report.int8_mac_share == 1.0
    assert not report.float_operators
    (parity,) = report.parity
    assert parity.cosine > 0.9999999
    assert parity.mean_steps < 4


def test_one_layer_of_sixteen_bits_among_eight(tmp_path):
    report = exported(small_net(), tmp_path, "edge_int8", override={"stem": {"activation_bits": 16}})
    types = {(kind, dtype) for kind, dtype in report.operators if kind in WEIGHTED}
    assert types == {("CONV_2D", "int16"), *((kind, "int8") for kind in WEIGHTED)}
    assert report.operators["CONV_2D", "int16"] == 1
    assert report.int8_mac_share == 1.0
    assert report.parity[0].cosine > 0.999
    assert report.parity[0].within_two_steps >= 0.99


LASTS = {
    "softmax": lambda: layers.Activation("softmax", name="last"),
    "sigmoid of a convolution": lambda: layers.Conv2D(4, 1, activation="sigmoid", name="last"),
    "gelu": lambda: layers.Activation("gelu", name="last"),
}


@pytest.mark.parametrize("last", LASTS)
def test_what_has_no_int16_form_is_an_error_that_names_it_and_says_what_to_do(last, tmp_path):
    model = small_net(LASTS[last]())
    with pytest.raises(ValueError, match="no int16 form of last in .*override=.'last'.*'activation_bits': 8"):
        rb.quantize_aware(model, "edge_int16x8")  # before any training
    assert rb.quantization.quantization_of(model) is None
    override = {"last": {"activation_bits": 8}}
    report = exported(small_net(LASTS[last]()), tmp_path, "edge_int16x8", override=override)
    assert report.int8_mac_share == 1.0
    assert not report.float_operators
    assert report.parity[0].cosine > 0.999


def test_concatenation_has_no_int16_form(tmp_path):
    def last(x):
        return layers.Concatenate(name="joined")([x, layers.Conv2D(6, 1)(x)])

    with pytest.raises(ValueError, match="no int16 form of joined"):
        exported(small_net(last), tmp_path, "edge_int16x8")


def test_activations_of_other_bits_can_be_trained_but_not_exported(tmp_path):
    model = small_net()
    with pytest.raises(ValueError, match="8 or 16 bits; .* of .* have other bits"):
        exported(model, tmp_path, Scheme("a6", activation_bits=6))
    assert np.isfinite(np.asarray(model(images(1, 16, 16, 3)))).all()


@pytest.mark.parametrize("size", [2, (1, 3)])
def test_nearest_upsampling_has_an_int16_form(size, tmp_path):
    """Keras makes it of tiles, of which LiteRT has none with 16 bits."""
    report = exported(small_net(lambda x: layers.Conv2D(3, 1)(layers.UpSampling2D(size)(x))), tmp_path, "edge_int16x8")
    assert report.verdict == "PASSED"
    assert {dtype for _, dtype in report.operators} == {"int16"}
