"""Layers without a quantization rule whose activation is a layer stay in float as a whole, activation included."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from resnet_backbones.quantization import quantization_of
from resnet_backbones.quantization.hooks import quantizers_of

layers = keras.layers
IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype("float32")
ROWS, VOLUME, FRAMES = (16, 16), (4, 4, 4, 4), (2, 4, 8, 4)


@keras.saving.register_keras_serializable("test_activation_layers")
class Scaled(layers.Layer):
    """A layer of somebody's own, with a weight and an activation under any name."""

    def __init__(self, activation, **arguments):
        super().__init__(**arguments)
        self.act = activation if isinstance(activation, layers.Layer) else keras.layers.deserialize(activation)

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="ones")
        super().build(shape)

    def call(self, inputs):
        return self.act(inputs * self.scale - 0.1)

    def get_config(self):
        return {**super().get_config(), "activation": keras.layers.serialize(self.act)}


KINDS = {
    "Conv1D": (ROWS, lambda a: layers.Conv1D(4, 3, activation=a)),
    "Conv1DTranspose": (ROWS, lambda a: layers.Conv1DTranspose(4, 3, strides=2, activation=a)),
    "Conv3D": (VOLUME, lambda a: layers.Conv3D(4, 2, activation=a)),
    "Conv3DTranspose": (VOLUME, lambda a: layers.Conv3DTranspose(4, 2, activation=a)),
    "DepthwiseConv1D": (ROWS, lambda a: layers.DepthwiseConv1D(3, activation=a)),
    "SeparableConv1D": (ROWS, lambda a: layers.SeparableConv1D(4, 3, activation=a)),
    "EinsumDense": (ROWS, lambda a: layers.EinsumDense("abc,cd->abd", (16, 8), bias_axes="d", activation=a)),
    "LSTM": (ROWS, lambda a: layers.LSTM(3, activation=a)),
    "GRU": (ROWS, lambda a: layers.GRU(3, recurrent_activation=a)),
    "SimpleRNN": (ROWS, lambda a: layers.Bidirectional(layers.SimpleRNN(3, activation=a))),
    "ConvLSTM2D": (FRAMES, lambda a: layers.ConvLSTM2D(3, 2, activation=a)),
    "TimeDistributed": ((2, 16, 8), lambda a: layers.TimeDistributed(layers.Conv1D(4, 3, activation=a))),
    "Scaled": (ROWS, Scaled),
}
if not IS_KERAS_3:
    KINDS["LocallyConnected2D"] = ((8, 8, 4), lambda a: layers.LocallyConnected2D(4, 3, activation=a))
ACTIVATIONS = {
    "relu": layers.ReLU,
    "relu6": lambda: layers.ReLU(6.0),
    "leaky": layers.LeakyReLU,
    "elu": layers.ELU,
    # tf_keras cannot load what it saves of an Activation as an activation, in float neither
    "named": lambda: layers.Activation("relu") if IS_KERAS_3 else layers.Softmax(),
}
SCHEMES = ("edge_int8", "portable_int8", "gpu_int8")
COVERING = [
    (kind, list(ACTIVATIONS)[(i + j * 2) % len(ACTIVATIONS)], SCHEMES[(i + j) % 3])
    for i, kind in enumerate(KINDS)
    for j in range(2)
    if not (j and kind in ("LSTM", "GRU", "SimpleRNN", "ConvLSTM2D"))
]


def network(kind, activation):
    keras.utils.set_random_seed(1)
    shape, made = KINDS[kind]
    image = layers.Input(IMAGES.shape[1:])
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="before")(image)
    x = made(activation)(layers.Reshape(shape)(x))
    return keras.Model(image, layers.Dense(3, name="after")(x), name="network")


@pytest.mark.parametrize(("kind", "activation", "scheme"), COVERING)
def test_it_stays_in_float_with_its_activation(kind, activation, scheme, tmp_path):
    model = network(kind, ACTIVATIONS[activation]())
    with pytest.warns(UserWarning, match="no quantization rule for .*in float"):
        rb.quantize_aware(model, scheme, calibration_data=IMAGES)
    inside = [layer for layer in model.layers if layer.name not in ("before", "after")]
    assert quantizers_of(model)
    assert not [one for layer in inside for one in quantizers_of(layer)]
    model.compile("sgd", "mse")
    model.fit(IMAGES, np.zeros_like(model.predict(IMAGES, verbose=0)), verbose=0)
    expected = model.predict(IMAGES, verbose=0)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(rb.load_model(tmp_path / "m.keras").predict(IMAGES, verbose=0), expected)
    name, options = ("m.tflite", {}) if scheme == "edge_int8" else ("m.onnx", {})
    report = rb.export_model(model, tmp_path / name, parity_data=IMAGES, **options)
    assert not [one for one in report.failures if "output" in one], report.failures


def test_an_activation_that_is_built_when_first_called_is_traced_once(tmp_path):
    model = network("Conv1D", layers.PReLU(alpha_initializer="random_uniform"))
    with pytest.warns(UserWarning, match="no quantization rule for Conv1D"):
        rb.quantize_aware(model, calibration_data=IMAGES)
    assert quantization_of(model)["calls"] == 4
    model.save(tmp_path / "m.keras")
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(rb.load_model(tmp_path / "m.keras").predict(IMAGES, verbose=0), expected)


def test_a_layer_that_only_joins_others_is_no_layer_of_its_own():
    """Its activation is quantized, as before."""

    class Sum(layers.Layer):
        def __init__(self):
            super().__init__()
            self.activation = layers.ReLU()

        def build(self, shape):
            self.built = True

        def call(self, inputs):
            return self.activation(inputs + 1.0)

    image = layers.Input(IMAGES.shape[1:])
    model = keras.Model(image, layers.Conv2D(3, 1)(Sum()(layers.Conv2D(4, 3)(image))))
    rb.quantize_aware(model, calibration_data=IMAGES)
    assert not quantization_of(model)["unsupported"]
    assert quantizers_of(model.layers[2].activation)
