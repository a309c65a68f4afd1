"""Stripping gives back the float model: its weights as trained, its layers and files as if never quantized."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import hooks_of, quantization_of, quantize_aware, quantizers_of
from resnet_backbones.quantization.strip import quantization_state, restore_quantization, strip_quantization
from tests.support.nets import SPEC, even_images, retinanet

layers = keras.layers


class Twice(keras.Model):
    """A subclassed model that calls one convolution twice, and a nested functional model."""

    def __init__(self):
        super().__init__(name="twice")
        self.shared = layers.Conv2D(4, 3, padding="same", name="shared")
        image = layers.Input((16, 16, 4))
        x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, padding="same", name="inner")(image))
        self.nested = keras.Model(image, layers.ReLU()(x), name="nested")

    def call(self, inputs, training=None):
        return self.nested(self.shared(self.shared(inputs)) + inputs, training=training)


def functional():
    image = layers.Input((16, 16, 4))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation("swish")(x) + image  # a bare operation has a range too
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="head")(layers.Flatten()(x)), name="small")
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def twice():
    model = Twice()
    model(tf.zeros((1, 16, 16, 4)))
    return model


@pytest.fixture(scope="module")
def pixels():
    return even_images(-1, 1, 4, 16, 16, 4)


def attributes(model):
    """What each layer holds, by name; TensorFlow's bookkeeping, made when first asked for, aside."""
    return [
        (
            layer.name,
            type(layer),
            sorted(n for n in layer.__dict__ if n[:6] != "_self_"),
            [w.name for w in layer.weights],
        )
        for layer in tree(model)
    ]


def tree(model):
    return [model, *model._flatten_layers(include_self=False)]


def lines(model):
    found = []
    model.summary(print_fn=lambda line, **_: found.append(line), expand_nested=True)
    return found


def outputs(model, inputs):
    return [np.asarray(value) for value in tf.nest.flatten(model(inputs, training=False))]


def saved_config(model, path):
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def head_kernel(model):
    return np.asarray(model.get_layer("head").kernel)


@pytest.mark.parametrize(("build", "hooked"), [(functional, 5), (twice, 4)])
def test_nothing_is_left_of_quantization(build, hooked, pixels, tmp_path):
    model = build()
    kind, expected = type(model), outputs(model, pixels)
    before, summary = attributes(model), lines(model)
    weights = [id(w) for w in model.weights]
    configuration = saved_config(model, tmp_path / "before.keras") if build is functional else None
    dependencies = checkpoint_names(model)
    quantize_aware(model, calibration_data=pixels)
    assert len(hooks_of(model)) == hooked
    assert checkpoint_names(model) != dependencies
    assert np.any(outputs(model, pixels)[0] != expected[0])
    assert strip_quantization(model) is model
    assert type(model) is kind
    assert quantization_of(model) is None
    assert attributes(model) == before
    assert lines(model) == summary
    assert [id(w) for w in model.weights] == weights
    assert checkpoint_names(model) == dependencies
    if configuration is not None:
        assert saved_config(model, tmp_path / "after.keras") == configuration
    for found, wanted in zip(outputs(model, pixels), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def checkpoint_names(model):
    """What a TensorFlow checkpoint of each layer would hold."""
    return [sorted(layer._trackable_children()) for layer in tree(model)]


def test_weights_stay_as_training_left_them(pixels):
    model = functional()
    quantize_aware(model, calibration_data=pixels)
    start = head_kernel(model)
    model.fit(pixels, np.array([0, 1, 2, 0]), verbose=0)
    trained = [w.numpy() for w in model.trainable_weights]
    assert np.any(head_kernel(model) != start)
    strip_quantization(model)
    for found, wanted in zip(model.trainable_weights, trained, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)
    after = head_kernel(model)
    model.fit(pixels, np.array([0, 1, 2, 0]), verbose=0)  # as compiled, without quantizers
    assert np.any(head_kernel(model) != after)
    assert np.isfinite(model.predict(pixels, verbose=0)).all()


def test_a_traced_predict_step_forgets_the_quantizers(pixels):
    model = functional()
    expected = model.predict(pixels, verbose=0)
    quantize_aware(model, calibration_data=pixels)
    assert np.any(model.predict(pixels, verbose=0) != expected)
    strip_quantization(model)
    np.testing.assert_array_equal(model.predict(pixels, verbose=0), expected)


def test_a_detector_gives_its_float_outputs_again_and_can_be_quantized_once_more(images):
    model = retinanet()
    expected, before = outputs(model, images), attributes(model)
    quantize_aware(model, calibration_data=images)
    quantized = outputs(model, images)
    strip_quantization(model)
    assert attributes(model) == before
    for found, wanted in zip(outputs(model, images), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    quantize_aware(model, calibration_data=images)
    for found, wanted in zip(outputs(model, images), quantized, strict=True):
        np.testing.assert_array_equal(found, wanted)


def quantized_backbone(images):
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3))
    before = attributes(backbone)
    return quantize_aware(backbone, calibration_data=images), before


@pytest.mark.parametrize("how", ["nested", "by its tensors", "in a task"])
def test_a_quantized_backbone_inside_a_float_model_is_stripped_with_it(how, images):
    backbone, before = quantized_backbone(images)
    if how == "in a task":
        model = rb.adapters.keras_cv.image_classifier(backbone, num_classes=3)
    else:
        image = layers.Input((64, 64, 3)) if how == "nested" else backbone.input
        features = backbone(image) if how == "nested" else backbone.output
        model = keras.Model(image, layers.GlobalAveragePooling2D()(features))
    quantized = outputs(model, images)
    strip_quantization(model)
    assert np.any(outputs(model, images)[0] != quantized[0])
    assert type(backbone) is type(rb.create_backbone(SPEC, input_shape=(64, 64, 3)))
    assert quantization_of(backbone) is None
    assert attributes(backbone) == before


def test_a_float_model_is_returned_as_it_is(pixels):
    model = functional()
    model.predict(pixels, verbose=0)
    before, step = attributes(model), model.predict_function
    assert strip_quantization(model) is model
    assert attributes(model) == before
    assert model.predict_function is step


def test_a_part_of_a_quantized_model_is_not_stripped_by_itself(pixels):
    model = twice()
    quantize_aware(model, calibration_data=pixels)
    expected = outputs(model, pixels)[0]
    with pytest.raises(ValueError, match="part of the quantized Twice 'twice'"):
        strip_quantization(model.nested)
    np.testing.assert_array_equal(outputs(model, pixels)[0], expected)


def test_restoring_a_state_takes_off_only_what_came_after_it(images):
    backbone, _ = quantized_backbone(images)
    before = attributes(backbone)
    ranges = {quantizer.name: quantizer.range() for quantizer in quantizers_of(backbone)}
    model = keras.Model(backbone.input, layers.Dense(3)(layers.GlobalAveragePooling2D()(backbone.output)))
    expected, kind = outputs(model, images)[0], type(model)
    state = quantization_state(model)
    quantize_aware(model, calibration_data=2.0 * images)  # completes the model, and moves every range
    assert len(hooks_of(model)) > len(hooks_of(backbone))
    assert {quantizer.name: quantizer.range() for quantizer in quantizers_of(backbone)} != ranges
    restore_quantization(model, state)
    assert type(model) is kind
    assert quantization_of(backbone)["scheme"]["name"] == "edge_int8"
    assert attributes(backbone) == before
    assert {quantizer.name: quantizer.range() for quantizer in quantizers_of(backbone)} == ranges
    np.testing.assert_array_equal(outputs(model, images)[0], expected)


def test_a_call_that_someone_put_on_the_layer_stays(pixels):
    model = functional()
    layer = model.get_layer("depthwise")
    original = layer.call

    def doubled(inputs):
        return 2.0 * original(inputs)

    layer.__dict__["call"] = doubled
    expected = outputs(model, pixels)[0]
    quantize_aware(model, calibration_data=pixels)
    strip_quantization(model)
    assert layer.__dict__["call"] is doubled
    np.testing.assert_array_equal(outputs(model, pixels)[0], expected)
