"""Models inside functional models run in the mode they were called with, whatever stands before them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import even_images, moving_statistics

layers = keras.layers
SPEC = rb.ResNetSpec(block="basic", depths=(1, 1), widths=(8, 8), stem_width=8)
SIZE = 16
IMAGES = even_images(1, 2, 4, SIZE, SIZE, 3)

# Layers whose call has training=True by default in Keras 3 leave that to those after them, and others that do not.
BEFORE = {
    "nothing": lambda x: x,
    "resizing": lambda x: layers.Resizing(SIZE, SIZE)(x),
    "crop": lambda x: layers.CenterCrop(SIZE, SIZE)(x),
    "flip": lambda x: layers.RandomFlip()(x),
    "contrast": lambda x: layers.RandomContrast(0.1)(x),
    "rescaling": lambda x: layers.Rescaling(0.5)(x),
}


def backbone():
    return rb.create_backbone(SPEC, input_shape=(SIZE, SIZE, 3))


def wrapped():
    inner = backbone()
    return rb.from_model(keras.Model(inner.input, inner.output), inner.pyramid_level_inputs)


def quantized(make):
    return lambda: rb.quantize_post_training(make(), calibration_data=IMAGES)


def classifier():
    return rb.adapters.keras_cv.image_classifier(backbone(), 3)


INNER = {
    "backbone": backbone,
    "wrapped": wrapped,
    "features": lambda: backbone().feature_extractor(["P3"]),
    "classifier": classifier,
    "quantized backbone": quantized(backbone),
    "quantized classifier": quantized(classifier),
}


def around(inner, before="resizing", **called):
    """A functional model around another one, called with ``training`` as given."""
    image = layers.Input((SIZE, SIZE, 3))
    x = inner(BEFORE[before](image), **called)
    x = x["P3"] if isinstance(x, dict) else x
    return keras.Model(image, layers.Flatten()(x))


def moves(inner, run):
    before = moving_statistics(inner)
    run()
    return any(not np.array_equal(one, other) for one, other in zip(before, moving_statistics(inner), strict=True))


def check(model, inner, built_with):
    """Statistics move where training says so: as it was built, else as the outer model is called."""
    assert len(moving_statistics(inner)) > 4
    for mode in ({}, {"training": False}, {"training": True}):
        trains = mode.get("training", False) if built_with is None else built_with
        assert moves(inner, lambda mode=mode: model(IMAGES, **mode)) == trains, mode


CASES = [
    *itertools.product(BEFORE, ["backbone"], [None, False, True]),
    *itertools.product(["resizing"], [name for name in INNER if name != "backbone"], [None, False, True]),
]


@pytest.mark.parametrize(("before", "name", "built_with"), CASES)
def test_it_runs_as_it_was_called(before, name, built_with):
    inner = INNER[name]()
    check(around(inner, before, **({} if built_with is None else {"training": built_with})), inner, built_with)


@pytest.mark.parametrize("eagerly", [True, False])
@pytest.mark.parametrize("built_with", [None, False])
def test_fit_and_predict(built_with, eagerly):
    inner = backbone()
    model = around(inner, **({} if built_with is None else {"training": built_with}))
    model.compile("sgd", "mse", run_eagerly=eagerly, jit_compile=False)
    targets = np.zeros((4, *model.output_shape[1:]), "float32")
    assert moves(inner, lambda: model.fit(IMAGES, targets, verbose=0)) == (built_with is None)
    assert not moves(inner, lambda: model.predict(IMAGES, verbose=0))
    assert not moves(inner, lambda: model.evaluate(IMAGES, targets, verbose=0))


@pytest.mark.parametrize(
    ("how", "built_with"),
    [*itertools.product(["saved", "cloned", "called before"], [None, False]), ("within another", False)],
)
def test_copies_of_the_outer_model_do_too(how, built_with, tmp_path):
    called = {} if built_with is None else {"training": built_with}
    model = around(backbone(), **called)
    if how == "saved":
        model.save(tmp_path / "m.keras")
        model = rb.load_model(tmp_path / "m.keras")
    elif how == "cloned":
        model = keras.models.clone_model(model)
    elif how == "within another":
        image = layers.Input((SIZE, SIZE, 3))
        model = keras.Model(image, model(layers.Resizing(SIZE, SIZE)(image)))
    else:
        model(IMAGES, training=True)
    (inner,) = (layer for layer in model._flatten_layers() if isinstance(layer, rb.Backbone))
    check(model, inner, built_with)


def test_sequential_models():
    inner = backbone()
    check(keras.Sequential([layers.Input((SIZE, SIZE, 3)), layers.Resizing(SIZE, SIZE), inner]), inner, None)


def test_a_subclassed_model_that_hands_training_on():
    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.resize, self.inner = layers.Resizing(SIZE, SIZE), backbone()

        def call(self, x, training=None):
            return self.inner(self.resize(x), training=training)

    model = Outer()
    check(model, model.inner, None)


def test_alone():
    inner = backbone()
    check(inner, inner, None)


def test_a_frozen_detector():
    spec = rb.ResNetSpec(block="basic", depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), stem_width=8)
    inner = rb.create_backbone(spec, input_shape=(64, 64, 3))
    inner = rb.adapters.keras_cv.yolo_v8_detector(inner, 3, "xywh", fpn_depth=1)
    image = layers.Input((64, 64, 3))
    model = keras.Model(image, list(inner(layers.Resizing(64, 64)(image), training=False).values()))
    images = np.resize(IMAGES, (2, 64, 64, 3))
    assert not moves(inner, lambda: model(images, training=True))
    assert moves(inner, lambda: inner(images, training=True))
