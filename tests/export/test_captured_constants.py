"""Constants that were computed before a model is traced: in bare operations, in layers, in keras.applications."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import even_images

layers = keras.layers
MEAN = np.array([103.9, 116.8, 123.7], "float32")


class Shift(layers.Layer):
    """Subtracts a constant that it made when it was built."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mean = tf.constant(MEAN)

    def call(self, inputs):
        return inputs - self.mean


FORMS = {
    "bare": lambda t: t - tf.constant(MEAN),
    "merging layer": lambda t: layers.Subtract()([t, tf.constant(np.broadcast_to(MEAN, (1, 8, 8, 3)))]),
    "layer": lambda t: Shift()(t),
    "preprocess_input": keras.applications.resnet50.preprocess_input,
    "zero variance": lambda t: layers.Normalization(mean=MEAN, variance=[0.0, 1.0, 2.0])(t),
    "in the midst": lambda t: layers.Normalization(mean=[0.1] * 4, variance=[2.0] * 4)(layers.Conv2D(4, 1)(t)),
}


@pytest.mark.filterwarnings("ignore:.*no quantization rule for Shift")
@pytest.mark.parametrize("form", FORMS)
def test_models_with_constants_quantize_and_export(form, tmp_path):
    image = layers.Input((8, 8, 3))
    try:
        prepared = FORMS[form](image)
    except ValueError:  # Keras 3's merging layers take no constants
        assert form == "merging layer"
        return
    model = keras.Model(image, layers.Conv2D(4, 3)(prepared))
    pictures = even_images(0, 255, 8, 8, 8, 3)
    for name in ("f.tflite", "f.onnx"):
        assert rb.export_model(model, tmp_path / name, precision="float32", parity_data=pictures).passed
    rb.quantize_post_training(model, calibration_data=pictures)
    for name, options in (("m.tflite", {}), ("m.onnx", {"target": "onnxruntime"})):
        report = rb.export_model(model, tmp_path / name, parity_data=pictures, **options)
        assert report.passed, (name, report.failures)
