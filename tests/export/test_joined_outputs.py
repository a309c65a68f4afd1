"""Outputs that only join parts keep a scale for each part: in training, in the file and in the runtime."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import images

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
    return images(8, 32, 32, 3)


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


def test_parts_that_are_mixed_share_a_range_and_a_warning_says_what_to_do(pictures, tmp_path):
    keras.utils.set_random_seed(0)
    with pytest.warns(UserWarning, match="they share one range.*move them"):
        model = rb.quantize_post_training(heads(as_layer, permuted=True), calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "mixed.tflite", parity_data=pictures)
    assert report.passed, report.failures
    assert {dtype for _, dtype in report.operators} == {"int8"}


def side_by_side(order, join):
    """Wide values and scores on two levels, joined in an order that some detectors join theirs in."""
    image = layers.Input((16, 16, 3))
    level, wide, scores = image, [], []
    for filters in (8, 12):
        level = layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(level)
        wide.append(layers.Conv2D(4, 1, kernel_initializer=keras.initializers.RandomNormal(0, 20.0, seed=1))(level))
        scores.append(layers.Conv2D(3, 1, activation="sigmoid")(level))
    if order == "maps":
        return keras.Model(image, join([wide[1], scores[1]], -1))
    if order == "rows and columns of maps":
        return keras.Model(image, join([join([wide[1], wide[1]], 1), join([wide[1], wide[1]], 1)], 2))
    if order == "joined maps, then rows":
        pairs = [layers.Reshape((-1, 7))(join(pair, -1)) for pair in zip(wide, scores, strict=True)]
        return keras.Model(image, join(pairs, 1))
    wide, scores = ([layers.Reshape((-1, one.shape[-1]))(one) for one in ones] for ones in (wide, scores))
    if order == "levels of pairs":
        return keras.Model(image, join([join(pair, -1) for pair in zip(wide, scores, strict=True)], 1))
    if order == "pair of levels":
        return keras.Model(image, join([join(wide, 1), join(scores, 1)], -1))
    if order == "vectors":
        pooled = [layers.GlobalAveragePooling2D()(one) for one in (level, image)]
        return keras.Model(image, join([layers.Dense(4)(pooled[0]), layers.Dense(2)(pooled[1])], -1))
    return keras.Model(image, {"pair": join([wide[0], scores[0]], 2), "levels": join(wide, 1)})


ORDERS = (
    "maps", "rows and columns of maps", "joined maps, then rows", "levels of pairs", "pair of levels", "vectors", "two",
)  # fmt: skip


@pytest.mark.parametrize(
    ("order", "join", "scheme"),
    [(order, (bare, as_layer)[at % 2], ("edge_int8", "portable_int8")[at // 2 % 2]) for at, order in enumerate(ORDERS)],
)
def test_parts_beside_each_other_on_any_axis_keep_their_scales(order, join, scheme, pictures, tmp_path):
    keras.utils.set_random_seed(0)
    pictures = pictures[:, :16, :16]
    model = rb.quantize_post_training(side_by_side(order, join), scheme, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "heads.tflite", parity_data=pictures, batch=1 if join is bare else None)
    assert report.passed, report.failures
    assert {dtype for _, dtype in report.operators} == {"int8"}
    assert "CONCATENATION" not in {kind for kind, _ in report.operators}
    for parity in report.parity:
        assert parity.within_two_steps >= 0.99, parity


def test_a_concatenation_that_is_computed_with_has_a_range(pictures):
    image = layers.Input((32, 32, 3))
    parts = [layers.Conv2D(4, 3, padding="same", name=name)(image) for name in ("left", "right")]
    joined = layers.Concatenate(name="join")(parts)
    model = keras.Model(image, [layers.Conv2D(2, 1, name="last")(joined), joined])
    rb.quantize_aware(model, calibration_data=pictures)
    assert (0, "output") in model.get_layer("join")._quantization_hook.quantizers
