"""What tests of small networks share: random images, and batch norms in which nothing is zero or one."""

from __future__ import annotations

import numpy as np

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras

#: A backbone of four stages, P2 to P5, as small as tasks take it: for tests that ask nothing of one by its name.
SPEC = rb.ResNetSpec(block="basic", depths=(1, 1, 1, 1), widths=(8, 16, 24, 32), stem_width=8)


def images(*shape, seed=0):
    """Normally distributed, (batch, height, width, channels), float32."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(model, seed=0):
    """Random batch-norm statistics and affine parameters: zeros and ones would hide mistakes."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights(
                [random.uniform(0.5, 1, size), *random.normal(0, 0.2, (2, *size)), random.uniform(0.8, 1.5, size)]
            )
    return model


def moving_statistics(model):
    """What the batch norms of a model have seen in training: arrays."""
    norms = (layer for layer in model._flatten_layers() if hasattr(layer, "moving_variance"))
    return [np.array(value) for norm in norms for value in (norm.moving_mean, norm.moving_variance)]
