"""Every kind of layer: quantized, trained a step, exported with no operator in float, and computing what Keras does."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, activation_function, keras
from resnet_backbones.quantization import Rule, quantizers_of, register_quantization_rule, rules
from tests.support.nets import images, randomise

layers = keras.layers


def conv(x, filters=8, kernel=3, **arguments):
    return layers.Conv2D(filters, kernel, padding="same", **arguments)(x)


def bn_relu(x):
    return layers.ReLU()(layers.BatchNormalization()(x))


def squeeze_and_excite(x):
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = layers.Conv2D(4, 1, activation="relu")(squeezed)
    return layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(squeezed)])


def merged(layer, count=2):
    return lambda x: layer()([conv(x, activation="relu" if i else None) for i in range(count)])


WEIGHTED = {
    "separable": lambda x: layers.SeparableConv2D(8, 3, padding="same", activation="relu")(x),
    "separable, strided, batch norm": lambda x: bn_relu(
        layers.SeparableConv2D(8, 3, 2, padding="same", depth_multiplier=2, use_bias=False)(x)
    ),
    "separable, dilated, silu": lambda x: layers.SeparableConv2D(8, 3, dilation_rate=2, activation="silu")(x),
    "transposed": lambda x: layers.Conv2DTranspose(6, 3, 2, padding="same", activation="relu")(x),
    "transposed, as many out as in": lambda x: bn_relu(layers.Conv2DTranspose(8, 3, 2, use_bias=False)(x)),
    "transposed, no bias": lambda x: layers.ReLU()(layers.Conv2DTranspose(6, 3, 2, use_bias=False)(x)),
    "grouped": lambda x: bn_relu(conv(x, groups=4, use_bias=False)),
    "groups of one channel": lambda x: bn_relu(conv(x, groups=8, use_bias=False)),
    "dilated": lambda x: bn_relu(conv(x, dilation_rate=2, use_bias=False)),
    "depthwise": lambda x: bn_relu(layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False)(x)),
    "depthwise, multiplied, dilated": lambda x: layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2)(x),
    "dense of pixels": lambda x: layers.Dense(5, activation="relu")(x),
    "dense of vectors": lambda x: layers.Dense(9, activation="relu")(layers.Flatten()(layers.MaxPooling2D(4)(x))),
}
MERGED = {
    "concatenated": lambda x: conv(merged(layers.Concatenate)(x)),
    "squeeze and excite": squeeze_and_excite,
    "added, three": merged(layers.Add, 3),
    "multiplied": merged(layers.Multiply),
    "multiplied, three": merged(layers.Multiply, 3),
    "subtracted": merged(layers.Subtract),
    "averaged": merged(layers.Average),
    "averaged, three": merged(layers.Average, 3),
    "maximum": merged(layers.Maximum),
    "minimum, three": merged(layers.Minimum, 3),
}
MOVED = {
    "upsampled, nearest": lambda x: conv(layers.UpSampling2D()(x)),
    "upsampled, bilinear": lambda x: conv(layers.UpSampling2D(interpolation="bilinear")(x)),
    "pooled, average": lambda x: conv(layers.AveragePooling2D(2)(x)),
    "pooled, all of it": lambda x: layers.Dense(4)(layers.GlobalAveragePooling2D()(x)),
    "pooled, largest, pixels kept": lambda x: conv(layers.GlobalMaxPooling2D(keepdims=True)(x), 4, 1),
    "padded and cropped": lambda x: conv(layers.Cropping2D(1)(layers.ZeroPadding2D(2)(x))),
    "reshaped and permuted": lambda x: layers.Dense(4)(layers.Permute((2, 1, 3))(layers.Reshape((8, 32, 8))(x))),
    "dropped out": lambda x: conv(layers.SpatialDropout2D(0.2)(layers.Dropout(0.2)(x))),
    "rescaled in the midst": lambda x: conv(layers.Rescaling(0.5, 0.1)(x)),
    "normalized in the midst": lambda x: conv(layers.Normalization(mean=[0.1] * 8, variance=[2.0] * 8)(x)),
    "named inputs": lambda x: layers.Conv2D(4, 3)(inputs=x),
    "a lambda": lambda x: conv(layers.Lambda(lambda x: x * 0.5, output_shape=(16, 16, 8))(x)),
}
ACTIVATIONS = {
    **{
        name: lambda x, name=name: conv(layers.Activation(activation_function(name))(x), 4)
        for name in ("hard_sigmoid", "hard_swish", "silu", "gelu", "leaky_relu", "relu6", "sigmoid", "tanh", "softmax")
    },
    "hard_sigmoid of a convolution": lambda x: conv(x, activation="hard_sigmoid"),
    "relu to 3": lambda x: conv(layers.ReLU(3.0)(x), 4),
    "leaky relu layer": lambda x: conv(layers.LeakyReLU()(x), 4),
    "prelu": lambda x: conv(layers.PReLU(alpha_initializer="random_uniform", shared_axes=[1, 2])(x), 4),
    "a layer as activation": lambda x: conv(conv(x, activation=layers.LeakyReLU()), 4, activation=layers.ReLU(3.0)),
}
relu = keras.ops.relu if IS_KERAS_3 else tf.nn.relu
concatenate = (lambda parts: keras.ops.concatenate(parts, -1)) if IS_KERAS_3 else (lambda parts: tf.concat(parts, -1))


def residuals(x):
    x = relu(x + conv(x))
    return relu(x + conv(relu(conv(x))))  # what a bare operation made, read by a layer and by a bare operation


BARE = {
    "bare additions and relus": residuals,
    "bare multiplication": lambda x: conv(x) * conv(x, activation="sigmoid"),
    "bare numbers": lambda x: conv(relu(x * 2.0 + 3.0)),
    "bare concatenation": lambda x: conv(concatenate([conv(x), conv(x, activation="relu")])),
}
KINDS = {**WEIGHTED, **MERGED, **MOVED, **ACTIVATIONS, **BARE}


def small_model(kind):
    image = layers.Input((16, 16, 3))
    first = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    first = layers.LeakyReLU()(layers.BatchNormalization()(first))
    return randomise(keras.Model(image, KINDS[kind](first)))


def train_a_step(model, batch):
    """One step of gradient descent on the mean square; the gradients."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(batch, training=True)))
    weights = model.trainable_variables
    gradients = tape.gradient(loss, [getattr(weight, "value", weight) if IS_KERAS_3 else weight for weight in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.assign(weight - 0.01 * gradient)
    return gradients


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_and_its_file_is_int8_and_computes_the_same(kind, tmp_path, recwarn):
    model, batch = small_model(kind), images(8, 16, 16, 3)
    rb.quantize_aware(model, calibration_data=batch)
    assert not [str(w.message) for w in recwarn if "stay" in str(w.message)], "nothing is said to stay in float"
    gradients = train_a_step(model, batch)
    assert all(gradient is not None and np.isfinite(np.asarray(gradient)).all() for gradient in gradients)
    rb.calibrate(model, batch)
    report = rb.export_model(model, tmp_path / "it.tflite", parity_data=batch)
    assert {dtype for _, dtype in report.operators} == {"int8"}, report.float_operators
    (parity,) = report.parity
    assert parity.cosine > 0.999
    assert parity.within_two_steps >= 0.99
    model.save(tmp_path / "it.keras")
    loaded = rb.load_model(tmp_path / "it.keras", **({"safe_mode": False} if kind == "a lambda" else {}))
    np.testing.assert_array_equal(np.asarray(loaded(batch)), np.asarray(model(batch)))


@keras.saving.register_keras_serializable("tests")
class Halves(layers.Layer):
    """A layer of somebody else: both halves of the channels, exchanged."""

    def call(self, inputs):
        first, second = tf.split(inputs, 2, axis=-1)
        return tf.concat([second, first], axis=-1)


def model_with_halves():
    image = layers.Input((16, 16, 3))
    return keras.Model(image, conv(Halves(name="halves")(conv(image)), 4))


def test_a_layer_without_a_rule_is_named_and_listed(tmp_path):
    model, batch = model_with_halves(), images(4, 16, 16, 3)
    with pytest.warns(UserWarning, match="halves: no quantization rule for Halves; it stays in float"):
        rb.quantize_aware(model, calibration_data=batch)
    report = rb.export_model(model, tmp_path / "it.tflite")
    assert report.left_in_float == {"halves": "no quantization rule for Halves"}
    assert report.int8_mac_share == 1.0


def test_a_rule_can_be_added(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))
    register_quantization_rule(Halves, Rule("same_range"))
    model, batch = model_with_halves(), images(4, 16, 16, 3)
    rb.quantize_aware(model, calibration_data=batch)
    assert not [w for w in recwarn if "stay" in str(w.message)]
    report = rb.export_model(model, tmp_path / "it.tflite", parity_data=batch)
    assert {dtype for _, dtype in report.operators} == {"int8"}
    assert not report.left_in_float
    assert report.parity[0].cosine > 0.999


def test_a_rule_of_an_unknown_role_is_refused():
    with pytest.raises(ValueError, match="one of activation, add, "):
        register_quantization_rule(Halves, Rule("moves"))


def test_layer_norm_is_an_island_of_float(tmp_path):
    image = layers.Input((16, 16, 3))
    model = keras.Model(image, conv(layers.LayerNormalization(name="norm")(conv(image)), 4))
    batch = images(4, 16, 16, 3)
    with pytest.warns(UserWarning, match="norm: no quantization rule for LayerNormalization"):
        rb.quantize_aware(model, calibration_data=batch)
    report = rb.export_model(model, tmp_path / "it.tflite", parity_data=batch)
    assert report.int8_mac_share == 1.0
    assert any("LayerNormalization" in reason for reason in report.float_operators.values())
    assert report.parity[0].cosine > 0.999


class TwoOutputs(layers.Layer):
    """A layer of layers with two outputs, called with keywords."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.first, self.second = layers.Conv2D(4, 1), layers.Conv2D(4, 1)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build(input_shape)
        self.built = True

    def call(self, inputs, flip=False):
        pair = self.first(inputs=inputs), self.second(inputs=inputs)
        return pair[::-1] if flip else pair


def test_layers_with_several_outputs_and_wrapped_layers_are_quantized(tmp_path):
    image = layers.Input((16, 16, 3))
    frames = layers.TimeDistributed(layers.Conv2D(4, 3, padding="same"))(layers.Reshape((2, 8, 16, 3))(image))
    one, two = TwoOutputs()(conv(layers.Reshape((16, 16, 4))(frames)), flip=True)
    model = keras.Model(image, layers.Subtract()([one, two]))
    batch = images(4, 16, 16, 3)
    rb.quantize_aware(model, calibration_data=batch)
    assert all(q.has_range for q in quantizers_of(model))
    report = rb.export_model(model, tmp_path / "it.tflite", parity_data=batch)
    assert {dtype for kind, dtype in report.operators if kind in ("CONV_2D", "SUB")} == {"int8"}
    assert report.parity[0].cosine > 0.999
