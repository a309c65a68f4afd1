"""Outputs that only join parts keep a scale for each part: in training, in the file and in the runtime."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_api import keras

layers = keras.layers


def heads(join, permuted=False):
    """As YOLOV8's: on two levels, values of some tens beside scores, joined, flattened, joined, taken apart."""
    image = layers.Input((32, 32, 3))
    coarse = layers.Conv2D(8, 3, 2, padding="same", activation="relu")(image)
    levels = []
    for level in (coarse, layers.MaxPooling2D()(coarse)):
        wide = layers.Conv2D(4, 1, kernel_initializer=keras.initializers.RandomNormal(0, 20.0, seed=1))(level)
        scores = layers.Activation("sigmoid")(layers.Conv2D(2, 1)(level))
        joined = join([wide, scores], -1)
        if permuted:
            joined = layers.Permute((3, 1, 2))(joined)
        levels.append(layers.Reshape((-1, 6))(joined))
    joined = layers.Activation("linear")(join(levels, 1))
    return keras.Model(image, {"wide": joined[:, :, :4], "scores": joined[:, :, 4:]})


def bare(tensors, axis):
    if hasattr(keras, "ops"):
        return keras.ops.concatenate(tensors, axis=axis)
    import tensorflow as tf

    return tf.concat(tensors, axis)


def as_layer(tensors, axis):
    return layers.Concatenate(axis=axis)(tensors)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")


@pytest.mark.parametrize("join", [bare, as_layer])
def test_each_part_keeps_its_scale(join, pictures, tmp_path):
    keras.utils.set_random_seed(0)
    model = rb.quantize_post_training(heads(join), calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "heads.tflite", parity_data=pictures)
    assert {dtype for _, dtype in report.operators} == {"int8"}
    assert "CONCATENATION" not in {kind for kind, _ in report.operators}
    for parity in report.parity:
        assert parity.cosine > 0.999, parity
        assert parity.within_two_steps >= 0.99
    loaded = rb.runtime.load(tmp_path / "heads.tflite")
    scores, wide = loaded.metadata["outputs"]
    assert (scores["name"], scores["parts"], scores["axis"]) == ("scores", ["scores_0", "scores_1"], 1)
    assert (wide["name"], wide["parts"]) == ("wide", ["wide_0", "wide_1"])
    found = loaded.raw(pictures)
    assert found["wide"].shape == (8, 16 * 16 + 8 * 8, 4)
    assert len(np.unique(found["scores"])) > 60  # with the range of the wide values there were a handful
    assert np.abs(found["wide"]).max() > 20


def test_several_images_at_once(pictures, tmp_path):
    keras.utils.set_random_seed(0)
    model = rb.quantize_post_training(heads(bare), calibration_data=pictures)
    rb.export_model(model, tmp_path / "one.tflite")
    report = rb.export_model(model, tmp_path / "many.tflite", batch=None, parity_data=pictures)
    assert min(parity.within_two_steps for parity in report.parity) >= 0.99
    one, many = (rb.runtime.load(tmp_path / f"{name}.tflite").raw(pictures) for name in ("one", "many"))
    np.testing.assert_allclose(one["wide"], many["wide"], atol=1e-4)


def test_parts_that_are_mixed_are_an_error(pictures, tmp_path):
    model = rb.quantize_post_training(heads(as_layer, permuted=True), calibration_data=pictures)
    with pytest.raises(ValueError, match="one after another along axis 1"):
        rb.export_model(model, tmp_path / "mixed.tflite")
    assert not list(tmp_path.iterdir())
    rb.export_model(model, tmp_path / "float.tflite", precision="float32")


def test_a_concatenation_that_is_computed_with_has_a_range(pictures):
    image = layers.Input((32, 32, 3))
    parts = [layers.Conv2D(4, 3, padding="same", name=name)(image) for name in ("left", "right")]
    joined = layers.Concatenate(name="join")(parts)
    model = keras.Model(image, [layers.Conv2D(2, 1, name="last")(joined), joined])
    rb.quantize_aware(model, calibration_data=pictures)
    assert (0, "output") in model.get_layer("join")._quantization_hook.quantizers
