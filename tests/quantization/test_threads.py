"""Threads that call one quantized model at once: none sees what another one's call is made of."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import images, randomise
from tests.support.processes import in_threads

layers = keras.layers
IMAGES = images(4, 12, 12, 3)
CALLS = 12


def network():
    image = layers.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu6")(image)
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, use_bias=False)(x))
    x = layers.ReLU()(layers.SeparableConv2D(8, 3)(x))
    x = layers.Conv2DTranspose(4, 2, strides=2)(x)
    return randomise(keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))))


@pytest.fixture
def quick_turns():
    """Threads take turns as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("scheme", ["edge_int8", "gpu_int8"])
def test_eager_calls_leave_the_layers_as_they_are(scheme, quick_turns):
    model = rb.quantize_post_training(network(), scheme, calibration_data=IMAGES)
    expected = np.asarray(model(IMAGES, training=False))
    before = [dict(layer.__dict__) for layer in model._flatten_layers()]

    def call():
        for _ in range(CALLS):
            np.testing.assert_array_equal(model(IMAGES, training=False), expected)

    in_threads(call)
    for layer, attributes in zip(model._flatten_layers(), before, strict=True):
        changed = [name for name, value in attributes.items() if layer.__dict__.get(name) is not value]
        assert not [name for name in changed if not name.startswith("_self_")], layer.name
    np.testing.assert_array_equal(model(IMAGES, training=False), expected)


@pytest.mark.parametrize("work", ["trace", "analyse", "export .tflite", "export .onnx"])
def test_calls_go_on_while_another_thread_looks_into_the_model(work, quick_turns, tmp_path):
    model = rb.quantize_post_training(network(), "portable_int8", calibration_data=IMAGES)
    expected = np.asarray(model(IMAGES, training=False))
    done, wrong = threading.Event(), []

    def call():
        while not done.is_set():
            if not np.array_equal(model(IMAGES, training=False), expected):
                wrong.append(work)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        if work == "trace":
            rb.quantization_summary(model)
        elif work == "analyse":
            rb.quantization.analyse(model, IMAGES)
        else:
            report = rb.export_model(model, tmp_path / f"m{work.split()[1]}", parity_data=IMAGES)
            assert report.passed, report
    finally:
        done.set()
        caller.join()
    assert not wrong
