"""What a model returns and reads on: the file gives it in integers, and what reads it has it too."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras

layers = keras.layers
IMAGES = np.random.default_rng(0).uniform(size=(8, 16, 16, 3)).astype("float32")


class ArgMax(layers.Layer):
    """The index of the largest channel."""

    def call(self, values):
        return tf.argmax(values, -1)


def bare_argmax(values):
    return keras.ops.argmax(values, axis=-1) if IS_KERAS_3 else tf.argmax(values, -1)


READERS = {
    "float activation": layers.ELU,
    "float norm": layers.LayerNormalization,
    "excluded": lambda: layers.Conv2D(3, 1, name="excluded"),
    "argmax layer": ArgMax,
    "bare argmax": lambda: bare_argmax,
    "argmax of a function": lambda: layers.Lambda(lambda values: tf.argmax(values, -1)),
    "integers": lambda: layers.Conv2D(3, 1),
    "nothing": lambda: layers.Activation("linear"),
}


def built(reader, both):
    keras.utils.set_random_seed(0)
    image = layers.Input((16, 16, 3))
    shared = layers.Conv2D(4, 3, activation="relu")(layers.Rescaling(2.0)(image))
    read = READERS[reader]()(shared)
    return keras.Model(image, {"shared": shared, "read": read} if both else read)


def exported(model, scheme, path, **how):
    exclude = ["excluded"] if any(layer.name == "excluded" for layer in model.layers) else []
    rb.quantize_post_training(model, scheme, calibration_data=IMAGES, exclude=exclude)
    report = rb.export_model(model, path, parity_data=IMAGES, **how)
    assert not [failure for failure in report.failures if "multiply-accumulates" not in failure or not exclude]
    return report


BARE = ("bare argmax", "argmax of a function")


@pytest.mark.parametrize(
    ("reader", "scheme"),
    [
        case
        for case in product(READERS, ["edge_int8", "edge_int16x8"])
        if case not in [(b, "edge_int16x8") for b in BARE]
    ],
)
def test_an_output_that_is_read_too_is_in_integers(reader, scheme, tmp_path):
    report = exported(built(reader, both=True), scheme, tmp_path / "model.tflite")
    steps = {parity.name: parity.within_two_steps for parity in report.parity}
    assert steps["shared"] == 1.0


def test_pixels_are_taken_as_bytes_there(tmp_path):
    report = exported(built("float activation", both=True), "edge_int8", tmp_path / "m.tflite", preprocessing=(16, 16))
    assert not report.failures


@pytest.mark.parametrize("reader", [name for name in READERS if "argmax" in name])
def test_argmax_at_the_end(reader, tmp_path):
    for scheme, name, how in (
        ("edge_int8", "m.tflite", {}),
        *([("edge_int16x8", "m.tflite", {})] if reader not in BARE else []),
        ("edge_int8", "m.onnx", {"target": "onnxruntime"}),
    ):
        model = built(reader, both=False)
        exported(model, scheme, tmp_path / name, **how)
        assert np.array_equal(rb.runtime.load(tmp_path / name).raw(IMAGES)["output"], model(IMAGES))
    for name in ("m.tflite", "m.onnx"):
        assert rb.export_model(built(reader, both=False), tmp_path / name, parity_data=IMAGES).passed


@pytest.mark.parametrize("reader", BARE)
@pytest.mark.parametrize("both", [True, False])
def test_argmax_of_16_bits_outside_of_a_layer_is_refused_before_training(reader, both):
    model = built(reader, both)
    with pytest.raises(ValueError, match="no int16 form of ArgMax.*Return the values.*'edge_int8'"):
        rb.quantize_aware(model, "edge_int16x8")
    rb.quantize_aware(model, "edge_int8")  # and nothing is left behind
