"""Ranges without calibration data: training finds them, of each part of a model."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import quantizers_of

layers = keras.layers


class Wrapped(keras.Model):
    """A classifier as a class, which calls its base in its own way and knows no argument ``training``."""

    def __init__(self, base, how):
        super().__init__()
        self.base, self.how = base, how
        self.pool, self.head = layers.GlobalAveragePooling2D(), layers.Dense(2)

    def call(self, images):
        return self.head(self.pool(self.base(images, **self.how)))


PART_CALLS = [{}, {"training": False}, {"training": True}]


@pytest.mark.filterwarnings("ignore:BatchNormalization .* changes its variables in inference")
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "subclassed"])
@pytest.mark.parametrize("call", PART_CALLS, ids=["as the model", "in inference", "in training"])
@pytest.mark.parametrize("trainable", [True, False], ids=["trainable", "frozen"])
def test_ranges_of_a_part_follow_training_however_the_part_is_called(nested, call, trainable):
    keras.utils.set_random_seed(0)
    image = layers.Input((16, 16, 3))
    stages = [layers.Conv2D(4, 3, strides=2), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(4, 3)]
    base = keras.Sequential([layers.Input((16, 16, 3)), *stages])
    base.trainable = trainable
    if nested:
        model = keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(base(image, **call))))
    else:
        model = Wrapped(base, call)
        model(np.zeros((1, 16, 16, 3), "float32"))
    rb.quantize_aware(model)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pictures = np.random.default_rng(0).uniform(size=(8, 16, 16, 3)).astype("float32")
    observed = [quantizer for quantizer in quantizers_of(model) if quantizer.fixed_range is None]
    assert observed
    assert not any(quantizer.has_range for quantizer in observed)
    model.fit(pictures, np.arange(8) % 2, batch_size=4, verbose=0)
    assert all(quantizer.has_range for quantizer in observed)
    before = [quantizer.range() for quantizer in observed]
    model(10 * pictures, training=False) if nested else model.evaluate(10 * pictures, np.arange(8) % 2, verbose=0)
    if nested or call != {"training": True}:  # a part that is always in training moves its ranges, as its batch norm
        assert [quantizer.range() for quantizer in observed] == before
