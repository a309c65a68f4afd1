"""Layers with 8 bits that read what has 16, whatever lies between; and sums of images of one pixel."""

from __future__ import annotations

import pytest

import resnet_backbones as rb
from resnet_backbones.adapters import keras_cv
from resnet_backbones.keras_compat import keras
from tests.support.nets import SPEC, images, randomise

layers = keras.layers
BETWEEN = {
    "nothing": lambda x: x,
    "flatten": lambda x: layers.Flatten()(x),
    "mean": lambda x: layers.GlobalAveragePooling2D()(x),
    "max": lambda x: layers.GlobalMaxPooling2D()(x),
    "max of one pixel": lambda x: layers.GlobalMaxPooling2D(keepdims=True)(x),
    "max pooling": lambda x: layers.MaxPooling2D(1)(x),
    "average pooling, flatten": lambda x: layers.Flatten()(layers.AveragePooling2D(1)(x)),
    "permute": lambda x: layers.Permute((2, 1, 3))(x),
    "enlarged": lambda x: layers.UpSampling2D(2)(x),
    "padded": lambda x: layers.ZeroPadding2D(1)(x),
    "max, enlarged": lambda x: layers.UpSampling2D(3)(layers.GlobalMaxPooling2D(keepdims=True)(x)),
}


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("pixels", [1, 2])
def test_a_head_of_8_bits_reads_16(pixels, added, tmp_path):
    inputs = layers.Input((pixels, pixels, 4))
    heads = []
    for number, between in enumerate(BETWEEN.values()):
        x = layers.Conv2D(6, 1)(inputs)
        if added:
            x = layers.ReLU()(layers.Add()([x, layers.Conv2D(6, 1)(inputs)]))
        x = between(x)
        heads.append(layers.Dense(3, name=f"head_{number}")(x))
        if len(x.shape) == 4:
            heads.append(layers.Conv2D(3, 1, name=f"head_{number}_convolved")(x))
    model = keras.Model(inputs, heads)
    randomise(model)
    pictures = images(32, pixels, pixels, 4)
    rb.quantize_post_training(
        model, "edge_int16x8", calibration_data=pictures, override={"head_*": {"activation_bits": 8}}
    )
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=pictures)
    assert report.passed, report.failures
    assert report.census.int8_share == 1


@pytest.mark.parametrize("size", [32, 64])
def test_a_classifier_whose_head_has_8_bits(size, tmp_path):
    model = keras_cv.image_classifier(rb.create_backbone(SPEC, input_shape=(size, size, 3)), num_classes=5)
    randomise(model)
    pictures = images(8, size, size, 3)
    name = model.layers[-1].name
    with pytest.raises(ValueError, match=rf"override={{'{name}': {{'activation_bits': 8}}}}"):
        rb.quantize_post_training(model, "edge_int16x8", calibration_data=pictures)
    rb.quantize_post_training(model, "edge_int16x8", calibration_data=pictures, override={name: {"activation_bits": 8}})
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=pictures)
    assert report.passed, report.failures
    assert report.census.int8_share == 1


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx"])
@pytest.mark.parametrize("bare", [False, True])
def test_a_sum_of_images_of_one_pixel_is_a_sum(bare, name, tmp_path):
    inputs = layers.Input((1, 1, 4))
    x, y = (layers.Conv2D(6, 1)(inputs) for _ in range(2))
    model = keras.Model(inputs, layers.Conv2D(3, 1)(x + y if bare else layers.Add()([x, y])))
    randomise(model)
    pictures = images(32, 1, 1, 4)
    for scheme in ("portable_int8", "edge_int16x8") if name == "m.tflite" else ("portable_int8",):
        model = rb.quantization.strip_quantization(model)
        rb.quantize_post_training(model, scheme, calibration_data=pictures)
        report = rb.export_model(model, tmp_path / name, parity_data=pictures)
        assert report.passed, report.failures
