"""Layers with a quantization rule and an activation without one: int8 kernels, and the activation in float."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from resnet_backbones.quantization.hooks import quantizers_of
from tests.support.nets import images

layers = keras.layers
PICTURES = images(8, 8, 8, 3)


@keras.saving.register_keras_serializable("test_activations_in_layers")
class Scaled(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="ones")
        super().build(shape)

    def call(self, inputs):
        return tf.abs(inputs) * self.scale


@keras.saving.register_keras_serializable("test_activations_in_layers")
def gated(x):
    return x * tf.sigmoid(1.7 * x)


KINDS = {
    "Conv2D": lambda a: layers.Conv2D(4, 3, activation=a),
    "DepthwiseConv2D": lambda a: layers.DepthwiseConv2D(3, activation=a),
    "Conv2DTranspose": lambda a: layers.Conv2DTranspose(4, 3, strides=2, activation=a),
    "SeparableConv2D": lambda a: layers.SeparableConv2D(4, 3, activation=a),
    "Dense": lambda a: layers.Dense(4, activation=a),
}
ACTIVATIONS = {
    "PReLU": lambda: layers.PReLU(alpha_initializer=keras.initializers.Constant(0.2), shared_axes=[1, 2]),
    "BatchNormalization": layers.BatchNormalization,
    "Scaled": Scaled,
    "Sequential": lambda: keras.Sequential([layers.ReLU(), layers.LeakyReLU()]),
    "gated": lambda: gated,
}


SCHEMES = ("edge_int8", "portable_int8", "gpu_int8")
COVERING = [(kind, name, SCHEMES[(i + j) % 3]) for i, kind in enumerate(KINDS) for j, name in enumerate(ACTIVATIONS)]


def network(kind, activation):
    keras.utils.set_random_seed(1)
    image = layers.Input(PICTURES.shape[1:])
    x = layers.Conv2D(4, 3, activation="relu", name="before")(image)
    x = KINDS[kind](activation)(x)
    return keras.Model(image, layers.Conv2D(3, 1, name="after")(x), name="network")


@pytest.mark.parametrize(("kind", "activation", "scheme"), COVERING)
def test_an_activation_without_a_rule(kind, activation, scheme, tmp_path, recwarn):
    model = network(kind, ACTIVATIONS[activation]())
    rb.quantize_aware(model, scheme, calibration_data=PICTURES)
    said = [str(warning.message) for warning in recwarn]
    wanted = f"activation '{activation}' has no int8 form in LiteRT; it stays in float."
    assert scheme == "gpu_int8" or any(wanted in one for one in said), said
    model.compile("sgd", "mse")
    model.fit(PICTURES, np.zeros_like(model.predict(PICTURES, verbose=0)), verbose=0)
    if IS_KERAS_3 or activation not in ("BatchNormalization", "Sequential"):  # tf_keras loads these in float neither
        expected = model.predict(PICTURES, verbose=0)
        model.save(tmp_path / "m.keras")
        np.testing.assert_array_equal(rb.load_model(tmp_path / "m.keras").predict(PICTURES, verbose=0), expected)
    path = tmp_path / ("m.onnx" if scheme == "gpu_int8" else "m.tflite")
    report = rb.export_model(model, path, parity_data=PICTURES)
    assert report.passed, report


def test_an_activation_that_changes_nothing_in_inference_ends_no_chain():
    model = network("Conv2D", layers.Dropout(0.1))
    rb.quantize_aware(model, calibration_data=PICTURES)
    assert not [one for one in quantizers_of(model) if "preactivation" in one.name]
