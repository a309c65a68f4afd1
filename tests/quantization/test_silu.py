"""SiLU in steps: LiteRT rounds the sigmoid in it, and training sees that."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import context
from tests.support.nets import even_images

layers = keras.layers


def network(activation_is_a_layer):
    image = layers.Input((16, 16, 8))
    if activation_is_a_layer:
        return keras.Model(image, layers.Activation("silu")(image))
    kernel = np.eye(8, dtype="float32").reshape(1, 1, 8, 8)
    model = keras.Model(image, layers.Conv2D(8, 1, use_bias=False, activation="silu")(image))
    model.layers[-1].set_weights([kernel])
    return model


def rounded(values, low, high, bits=8):
    """Fake quantization as the definition has it: a step, a whole zero point, nearest."""
    step = (high - low) / (2**bits - 1)
    zero = np.round(-low / step)
    return (np.clip(np.round(values / step) + zero, 0, 2**bits - 1) - zero) * step


@pytest.fixture
def images():
    return even_images(-7, 7, 4, 16, 16, 8)


@pytest.mark.parametrize("activation_is_a_layer", [True, False])
def test_the_sigmoid_is_rounded_to_256ths(images, activation_is_a_layer):
    model = rb.quantize_post_training(network(activation_is_a_layer), calibration_data=images)
    ranges = {quantizer.name.split("quantizer_")[-1]: quantizer.range() for quantizer in quantizers(model)}
    x = rounded(images, *ranges["input0_0"])
    if not activation_is_a_layer:
        x = rounded(x, *ranges["preactivation_0"])
    gate = np.minimum(np.round(256 / (1 + np.exp(-x))), 255) / 256
    expected = rounded(x * gate, *ranges["output_0"])
    step = (ranges["output_0"][1] - ranges["output_0"][0]) / 255
    off = np.abs(model(images) - expected) / step
    assert (off < 0.01).mean() > 0.999  # a tie may round either way
    smooth = rounded(x / (1 + np.exp(-x)), *ranges["output_0"])
    assert (np.abs(model(images) - smooth) / step > 0.5).mean() > 0.05


def quantizers(model):
    return rb.quantization.quantizers_of(model)


@pytest.mark.parametrize("scheme", ["gpu_int8", "portable_int8"])
def test_for_tensorrt_it_is_not(images, scheme):
    scheme = rb.quantization.get_scheme(scheme).replace(float_outputs=False)
    model = rb.quantize_post_training(network(False), scheme, calibration_data=images)
    ranges = {quantizer.name.split("quantizer_")[-1]: quantizer.range()[1] for quantizer in quantizers(model)}
    step = ranges["input0_0"] / 127
    x = np.round(images / step) * step
    expected = x / (1 + np.exp(-x))
    if "output_0" in ranges:
        step = ranges["output_0"] / 127
        expected = np.clip(np.round(expected / step), -127, 127) * step
    with context.use_view("tensorrt"):
        found = model(images).numpy()
    assert (np.abs(found - expected) < 1e-4).mean() > 0.999


def test_gradients_pass_through_the_steps(images):
    model = rb.quantize_aware(network(True), calibration_data=images)
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=True)
    gradient = tape.gradient(y, x).numpy()
    sigmoid = 1 / (1 + np.exp(-images))
    inside = np.abs(images) < 6.9  # beyond the range nothing passes
    np.testing.assert_allclose(gradient[inside], (sigmoid * (1 + images * (1 - sigmoid)))[inside], atol=0.05)


def test_a_file_computes_what_keras_does(images, tmp_path):
    """Twelve layers of SiLU: without the steps 12 % of the values are more than two steps off."""
    keras.utils.set_random_seed(0)
    x = image = layers.Input((16, 16, 8))
    for _ in range(12):
        x = layers.Conv2D(8, 3, padding="same", activation="silu")(x)
    model = rb.quantize_post_training(keras.Model(image, x), calibration_data=images)
    (parity,) = rb.export_model(model, tmp_path / "silu.tflite", parity_data=images).parity
    assert parity.within_two_steps >= 0.99
