"""Small models and the random weights to try on them."""

from __future__ import annotations

import numpy as np

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.weights.targets import slots_of
from tests.support.nets import images

SPEC = rb.ResNetSpec(block="basic", depths=(1, 2), widths=(4, 8), stem_width=4)


def tiny(spec=SPEC, channels=3, **arguments):
    arguments.setdefault("preprocessing", spec.preprocessing)  # chosen: loading weights says nothing of it
    return rb.create_backbone(spec, input_shape=(32, 32, channels), **arguments)


def classifier(backbone=None, classes=10):
    pool = keras.layers.GlobalAveragePooling2D()
    model = keras.Sequential([backbone or tiny(), pool, keras.layers.Dense(classes, name="predictions")])
    size = model.layers[0].inputs[0].shape[1] or 64
    model(np.zeros((1, size, size, 3), "float32"))
    return model


def randomise_all_but_kernels(model, seed=0):
    """Random biases, batch-norm statistics and affine parameters; kernels are random already."""
    random = np.random.default_rng(seed)
    for slot in slots_of(model):
        if slot.weight in ("gamma", "moving_variance"):
            slot.variable.assign(random.uniform(0.5, 1.5, slot.shape))
        elif slot.weight != "kernel":
            slot.variable.assign(random.normal(0, 0.2, slot.shape))
    return model


def level_errors(backbone, theirs, levels, size, channels=3):
    """Level -> largest difference to a Keras model of another library, as a share of the largest magnitude.

    ``theirs`` is the class ``Model`` of its Keras, and the model; ``levels``, our level -> its symbolic tensor.
    """
    model_class, model = theirs
    x = images(2, *size, channels)
    expected = model_class(model.inputs, levels)(x)
    ours = backbone.feature_extractor(list(levels))(x)
    errors = {}
    for level in levels:
        wanted, found = np.asarray(expected[level]), np.asarray(ours[level])
        assert found.shape == wanted.shape, (level, found.shape, wanted.shape)
        errors[level] = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    print(backbone.name, size, errors)
    return errors


def timm_state(seed=0, channels=3):
    """A random state_dict by timm's names for a classifier of SPEC, written out by hand."""
    random = np.random.default_rng(seed)
    convs = {
        "conv1": (4, channels, 7, 7),
        "layer1.0.conv1": (4, 4, 3, 3),
        "layer1.0.conv2": (4, 4, 3, 3),
        "layer2.0.conv1": (8, 4, 3, 3),
        "layer2.0.conv2": (8, 8, 3, 3),
        "layer2.0.downsample.0": (8, 4, 1, 1),
        "layer2.1.conv1": (8, 8, 3, 3),
        "layer2.1.conv2": (8, 8, 3, 3),
    }
    state = {}
    for name, shape in convs.items():
        state[f"{name}.weight"] = random.normal(size=shape).astype("float32")
        norm = name.replace("conv", "bn").replace("downsample.0", "downsample.1")
        for weight in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{weight}"] = random.uniform(0.5, 1.5, shape[0]).astype("float32")
        state[f"{norm}.num_batches_tracked"] = np.int64(7)
    state["fc.weight"] = random.normal(size=(10, 8)).astype("float32")
    state["fc.bias"] = random.normal(size=10).astype("float32")
    return state
