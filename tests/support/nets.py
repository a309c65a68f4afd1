"""Small networks, images for them, and batch norms in which nothing is zero or one."""

from __future__ import annotations

import numpy as np

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras

#: A backbone of four stages, P2 to P5, as small as tasks take it: for tests that ask nothing of one by its name.
SPEC = rb.ResNetSpec(block="basic", depths=(1, 1, 1, 1), widths=(8, 16, 24, 32), stem_width=8)
#: Smaller still, P1 to P3: for backbones alone.
TWO_STAGES = rb.ResNetSpec(block="basic", depths=(1, 1), widths=(4, 8), stem_width=4)


def images(*shape, seed=0):
    """Normally distributed, (batch, height, width, channels), float32."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def even_images(low, high, *shape, seed=0):
    """As :func:`images`, evenly distributed between two numbers."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype("float32")


def two_stages(spec=TWO_STAGES, input_shape=(32, 32, 3), **overrides):
    return rb.create_backbone(spec, input_shape=input_shape, **overrides)


def classifier(spec=SPEC, size=64, classes=3):
    """A plain Keras model: a backbone, the mean over its pixels, a dense layer with softmax."""
    backbone = rb.create_backbone(spec, input_shape=(size, size, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(classes, activation="softmax", name="head")(x))


def retinanet(num_classes=3, spec=SPEC, **backbone):
    """The smallest there is; the pyramid's levels share its heads. What is named else is the backbone's."""
    built = rb.create_backbone(spec, input_shape=(64, 64, 3), **backbone)
    return rb.adapters.keras_cv.retinanet(built, num_classes, bounding_box_format="xywh", head_depth=1)


def randomise(model, seed=0, *, scales=(0.5, 1.0), offset=0.2, variances=(0.8, 1.5)):
    """Random batch-norm statistics and affine parameters: zeros and ones would hide mistakes. The model.

    Scales and variances lie evenly between two numbers, offsets have a deviation: of deep networks, smaller variances
    keep signals from vanishing.
    """
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.built:
            size = layer.moving_mean.shape
            for weight, values in (
                (layer.gamma, random.uniform(*scales, size)),
                (layer.beta, random.normal(0, offset, size)),
                (layer.moving_mean, random.normal(0, 0.2, size)),
                (layer.moving_variance, random.uniform(*variances, size)),
            ):
                if weight is not None:
                    weight.assign(values)
    return model


def moving_statistics(model):
    """What the batch norms of a model have seen in training: arrays."""
    norms = (layer for layer in model._flatten_layers() if hasattr(layer, "moving_variance"))
    return [np.array(value) for norm in norms for value in (norm.moving_mean, norm.moving_variance)]


def values(model):
    """What a model holds, to be compared later."""
    return [np.array(weight) for weight in model.get_weights()]


def assert_same(found, expected):
    """Equal arrays, in equal number or under equal names."""
    if hasattr(found, "keys"):
        assert set(found) == set(expected)
        pairs = {name: (value, expected[name]) for name, value in found.items()}
    else:
        pairs = dict(enumerate(zip(found, expected, strict=True)))
    for name, (value, other) in pairs.items():
        np.testing.assert_array_equal(value, other, err_msg=str(name))
