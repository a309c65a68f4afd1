"""Recurrent layers behind convolutions stay in float beside what is in integers."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras

layers = keras.layers
IMAGES = np.random.default_rng(0).uniform(size=(8, 8, 6, 1)).astype("float32")
RECURRENT = {
    "LSTM": lambda: layers.LSTM(4),
    "LSTM unrolled": lambda: layers.LSTM(4, unroll=True),
    "LSTM backwards": lambda: layers.LSTM(4, return_sequences=True, go_backwards=True),
    "GRU": lambda: layers.GRU(4, reset_after=False),
    "SimpleRNN": lambda: layers.SimpleRNN(4),
    "Bidirectional LSTM": lambda: layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
    "RNN of cells": lambda: layers.RNN([layers.GRUCell(4), layers.LSTMCell(3)]),
}
FILES = {"m.tflite": {}, "m.onnx": {"target": "onnxruntime"}}


def network(kind):
    image = layers.Input((8, 6, 1))
    values = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(image)
    values = layers.Reshape((6, 32))(layers.Permute((2, 1, 3))(values))
    return keras.Model(image, layers.Dense(3, name="head")(RECURRENT[kind]()(values)))


@pytest.mark.parametrize("kind", RECURRENT)
def test_files_are_the_model_and_their_recurrent_part_is_float(kind, tmp_path):
    model = network(kind)
    for name, how in FILES.items():
        assert rb.export_model(model, tmp_path / name, parity_data=IMAGES, **how).passed
    rb.quantize_post_training(model, "edge_int8", calibration_data=IMAGES)
    for name, how in FILES.items():
        report = rb.export_model(model, tmp_path / name, parity_data=IMAGES, **how)
        told = ("multiply-accumulates", "WHILE")  # the recurrent part is not in int8, and its loop is not counted
        assert [one for one in report.failures if not any(words in one for words in told)] == []
        assert any("multiply-accumulates" in one or "counts as float" in one for one in report.failures)
        assert report.kernels.compared == report.kernels.equal == 2
