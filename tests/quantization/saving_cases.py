"""Models that tests save in one process and load in another, built alike in both."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import quantize_aware, quantizers_of
from tests.support.nets import classifier, even_images, retinanet

layers = keras.layers
IMAGES = even_images(-1, 1, 2, 64, 64, 3)


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


CASES = {"classifier": classifier, "detector": retinanet, "subclassed": subclassed}


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
