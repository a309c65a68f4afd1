"""What a user leaves in float is float in the file too, though the converter would make integers of it."""

from __future__ import annotations

import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import even_images, randomise

layers = keras.layers
IMAGES = even_images(-1, 1, 8, 16, 16, 3)


def between_ranges(kind):
    """A net whose layer "middle" reads a tensor with a range and is read by a layer that wants one."""
    image = layers.Input((16, 16, 3))
    before = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="first")(image)))
    if kind == "conv":
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="middle")(before)))
    elif kind == "depthwise in a block":
        x = layers.DepthwiseConv2D(3, padding="same", name="middle")(before)
        x = layers.Add()([layers.BatchNormalization()(x), before])
    elif kind == "addition":
        other = layers.Conv2D(8, 1, name="other")(before)
        x = layers.Add(name="middle")([other, before])
    else:
        x = layers.Dense(12, activation="relu", name="middle")(layers.GlobalAveragePooling2D()(before))
        return randomise(keras.Model(image, layers.Dense(5, name="last")(x)))
    return randomise(keras.Model(image, layers.Conv2D(4, 3, padding="same", name="last")(x)))


OPERATORS = {
    "conv": "CONV_2D",
    "depthwise in a block": "DEPTHWISE_CONV_2D",
    "addition": "ADD",
    "dense": "FULLY_CONNECTED",
}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", OPERATORS)
def test_an_excluded_layer_is_float_in_the_file(kind, bits, tmp_path):
    scheme = "edge_int8" if bits == 8 else "edge_int16x8"
    model = rb.quantize_post_training(between_ranges(kind), scheme, calibration_data=IMAGES, exclude=["middle"])
    report = rb.export_model(model, tmp_path / "model.tflite", parity_data=IMAGES, layers=True)
    assert report.operators[OPERATORS[kind], "float32"] == 1
    assert "excluded by 'middle'" in str(report.float_operators)
    assert not any("LOCAL_RESPONSE" in operator for operator, _ in report.operators)
    assert report.kernels.compared == report.kernels.equal == 2 + (kind == "addition")
    assert all(entry.within_two_steps >= 0.99 for entry in report.parity)
    assert rb.runtime.load(report.path).raw(IMAGES[:1])["output"].shape[0] == 1

    whole = rb.quantize_post_training(between_ranges(kind), scheme, calibration_data=IMAGES)
    everything = rb.export_model(whole, tmp_path / "whole.tflite").operators
    assert {dtype for _, dtype in everything} <= {"int8", "int16"}


BETWEEN = {
    "max pooling": lambda t: layers.MaxPooling2D()(t),
    "average pooling": lambda t: layers.AveragePooling2D(2)(t),
    "nearest upsampling": lambda t: layers.UpSampling2D()(t),
    "bilinear upsampling": lambda t: layers.UpSampling2D(interpolation="bilinear")(t),
    "resizing": lambda t: layers.Resizing(12, 12)(t),
    "padding": lambda t: layers.ZeroPadding2D()(t),
    "cropping": lambda t: layers.Cropping2D(1)(t),
    "global max pooling": lambda t: layers.GlobalMaxPooling2D(keepdims=True)(t),
    "global average pooling": lambda t: layers.GlobalAveragePooling2D(keepdims=True)(t),
    "concatenation": lambda t: layers.Concatenate()([t, t]),
    "permutation": lambda t: layers.Permute((2, 1, 3))(t),
    "a bare slice": lambda t: t[:, 1:, ::2],
    "dropout": lambda t: layers.Dropout(0.1)(t),
    "two layers": lambda t: layers.ZeroPadding2D()(layers.MaxPooling2D()(t)),
    "reshaping": lambda t: layers.Reshape((t.shape[1] * t.shape[2], 1, t.shape[3]))(t),
}
KEPT = {
    "CONV_2D": lambda: layers.Conv2D(5, 3, padding="same", activation="relu", name="kept"),
    "DEPTHWISE_CONV_2D": lambda: layers.DepthwiseConv2D(3, padding="same", name="kept"),
    "TRANSPOSE_CONV": lambda: layers.Conv2DTranspose(5, 2, 2, name="kept"),
    "FULLY_CONNECTED": lambda: layers.Dense(5, name="kept"),
    "MUL": lambda: layers.BatchNormalization(name="kept"),
    "LOGISTIC": lambda: layers.Activation("sigmoid", name="kept"),
    "PRELU": lambda: layers.PReLU(keras.initializers.Constant(0.2), shared_axes=[1, 2], name="kept"),
    "AVERAGE_POOL_2D": lambda: layers.AveragePooling2D(1, name="kept"),
    "RESIZE_BILINEAR": lambda: layers.UpSampling2D(interpolation="bilinear", name="kept"),
}


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("part", [0, 1])
def test_an_excluded_layer_is_float_after_layers_that_only_move_values(kept, part, tmp_path):
    """Every second of what may stand between, each branch of one net with an excluded layer of its own."""
    kinds = list(BETWEEN)[(list(KEPT).index(kept) + part) % 2 :: 2]
    image = layers.Input((16, 16, 3))
    outputs = []
    for number, kind in enumerate(kinds):
        x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
        layer = KEPT[kept]()
        layer = type(layer).from_config({**layer.get_config(), "name": f"kept_{number}"})
        outputs.append(layers.Conv2D(3, 1)(layer(BETWEEN[kind](x))))
    model = randomise(keras.Model(image, outputs))
    rb.quantize_post_training(model, calibration_data=IMAGES, exclude=["kept_*"])
    report = rb.export_model(model, tmp_path / "model.tflite", parity_data=IMAGES)
    assert report.operators[kept, "float32"] == len(kinds)
    others = {kind for kind, dtype in report.operators if dtype == "float32"} - {kept}
    assert others <= {"QUANTIZE", "DEQUANTIZE", "ADD", "RESHAPE", "RELU"}
    assert report.passed, report.verdict
