"""Concatenations whose inputs or result are moved: a LiteRT file gives all they join the scale of the result."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import images

layers = keras.layers


def conv(tensor, channels=4, name=None):
    return layers.Conv2D(channels, 3, padding="same", activation="relu", name=name)(tensor)


def first_half(tensor):
    return (keras.ops if hasattr(keras, "ops") else tf).split(tensor, 2, axis=-1)[0]


def shuffled(tensor):
    operations = keras.ops if hasattr(keras, "ops") else tf
    height, width, channels = tensor.shape[1:]
    groups = operations.reshape(tensor, [-1, height, width, 2, channels // 2])
    return operations.reshape(operations.transpose(groups, [0, 1, 2, 4, 3]), [-1, height, width, channels])


BEFORE = {
    "a layer": conv,
    "split": first_half,
    "slice": lambda t: t[..., 2:6],
    "max pooling": lambda t: layers.MaxPooling2D(3, 1, padding="same")(conv(t)),
    "upsampling": lambda t: layers.UpSampling2D()(layers.MaxPooling2D()(conv(t))),
    "padding": lambda t: layers.ZeroPadding2D(1)(layers.Cropping2D(1)(conv(t))),
    "permute": lambda t: layers.Permute((2, 1, 3))(conv(t)),
    "shuffle": lambda t: shuffled(conv(t)),
    "concatenation": lambda t: layers.Concatenate()([conv(t, 2), first_half(conv(t))]),
}
AFTER = {
    "nothing": lambda t: t,
    "reshape": lambda t: layers.Reshape((4, 16, t.shape[-1]))(t),
    "permute": lambda t: layers.Permute((2, 1, 3))(t),
    "shuffle": shuffled,
    "flatten": lambda t: layers.Reshape((1, 1, -1))(layers.Flatten()(t)),
    "upsampling": lambda t: layers.UpSampling2D()(t),
    "bilinear": lambda t: layers.UpSampling2D(interpolation="bilinear")(t),
    "padding": lambda t: layers.ZeroPadding2D(1)(t),
    "cropping": lambda t: layers.Cropping2D(1)(t),
    "max pooling": lambda t: layers.MaxPooling2D()(t),
}
# Every form before, with every form after once over all; the two scales in either order.
PAIRS = [
    (b, a, (n + m) % 2) for n, b in enumerate(BEFORE) for m, a in enumerate(AFTER) if (m - n) % len(AFTER) in (1, 3)
]


@pytest.mark.parametrize(("before", "after", "first"), PAIRS)
def test_all_parts_have_the_scale_of_the_result(before, after, first, tmp_path):
    image = layers.Input((8, 8, 3))
    trunk = conv(image, 8)
    parts = [BEFORE[before](trunk), conv(trunk, 4, name="small")]
    joined = layers.Concatenate()(parts[::-1] if first else parts)
    model = keras.Model(image, layers.Conv2D(3, 1)(AFTER[after](joined)))
    kernel = model.get_layer("small").kernel
    kernel.assign(0.1 * np.asarray(kernel))
    pictures = images(8, 8, 8, 3)
    rb.quantize_post_training(model, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=pictures)
    assert report.passed, report
    assert report.parity[0].within_two_steps >= 0.99
    assert report.parity[0].cosine > 0.9995


@pytest.mark.parametrize("after", ["split", "slice"])
def test_a_part_that_is_read_by_itself_is_rounded_twice_as_in_keras(after, tmp_path):
    image = layers.Input((8, 8, 3))
    trunk = conv(image, 8)
    joined = layers.Concatenate()([conv(trunk, 4, name="small"), conv(trunk)])
    part = first_half(joined) if after == "split" else joined[..., :4]
    model = keras.Model(image, layers.Conv2D(3, 1)(part))
    kernel = model.get_layer("small").kernel
    kernel.assign(0.1 * np.asarray(kernel))
    pictures = images(8, 8, 8, 3)
    rb.quantize_post_training(model, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=pictures)
    kinds = [operator.kind for operator in report.census.operators]
    assert kinds[kinds.index("CONCATENATION") - 1] == "MUL"  # from the small values' own scale to the result's
    assert "MAX_POOL_2D" not in kinds
    # The steps of the whole are ten times those of the small values: one that falls the other way is ten off.
    assert report.parity[0].mean_steps < 1


@pytest.mark.parametrize("pad", [False, True])
def test_a_part_that_is_joined_and_convolved_stays_in_integers(pad, tmp_path):
    image = layers.Input((8, 8, 3))
    split = (keras.ops if hasattr(keras, "ops") else tf).split
    first, second = split(layers.Activation("silu")(layers.Conv2D(8, 3, padding="same")(image)), 2, axis=-1)
    inner = layers.Conv2D(4, 3, name="inner")(layers.ZeroPadding2D(1)(second)) if pad else conv(second, name="inner")
    joined = layers.Concatenate()([first, second, layers.Activation("silu")(inner)])
    model = keras.Model(image, layers.Conv2D(3, 1)(joined))
    kernel = model.get_layer("inner").kernel
    kernel.assign(0.1 * np.asarray(kernel))
    pictures = images(8, 8, 8, 3)
    rb.quantize_post_training(model, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=pictures)
    assert report.passed, report
    assert not report.float_operators
