"""Models that tests save in one process and load in another, built alike in both."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import quantize_aware, quantizers_of

layers = keras.layers
SPEC = rb.ResNetSpec(block="basic", depths=(1, 1, 1, 1), widths=(8, 16, 24, 32), stem_width=8)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype("float32")


def classifier():
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3))
    x = layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, layers.Dense(3, activation="softmax", name="head")(x))


def detector():
    """Its heads are shared by the pyramid's levels."""
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3))
    return rb.adapters.keras_cv.retinanet(backbone, num_classes=3, bounding_box_format="xywh", head_depth=1)


@keras.saving.register_keras_serializable("saving_cases")
class Subclassed(keras.Model):
    """Calls a convolution twice, and adds without a layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Conv2D(3, 3, padding="same", name="first")
        self.second = layers.Conv2D(4, 3, strides=8, name="second")

    def call(self, inputs):
        return self.second(self.first(self.first(inputs)) + inputs)

    def get_config(self):
        return {"name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def subclassed():
    model = Subclassed()
    model(tf.zeros((1, 64, 64, 3)))
    return model


def sequential():
    convolution = layers.Conv2D(4, 3, strides=8, activation="relu", name="convolution")
    return keras.Sequential([layers.Input((64, 64, 3)), convolution, layers.Flatten(), layers.Dense(3, name="head")])


CASES = {"classifier": classifier, "detector": detector, "subclassed": subclassed}


def quantized(build):
    """Calibrated on `IMAGES`."""
    return quantize_aware(build(), calibration_data=IMAGES)


def facts(model):
    """Outputs and ranges, by name."""
    outputs = tf.nest.flatten(model(IMAGES, training=False))
    found = {f"output {number}": np.asarray(value) for number, value in enumerate(outputs)}
    for number, quantizer in enumerate(quantizers_of(model)):
        found[f"range {number}"] = np.array([quantizer.range_min.numpy(), quantizer.range_max.numpy()])
    return found


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
