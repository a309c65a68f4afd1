"""What KerasCV's detectors fail at, and what Keras' global settings change, does no harm to ours."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import SPEC, even_images

IMAGES = even_images(0, 255, 2, 64, 64, 3)
DETECTORS = {
    "retinanet": ("retinanet", {"head_depth": 1}, {"box_loss": "smoothl1", "classification_loss": "focal"}),
    "yolo_v8": (
        "yolo_v8_detector",
        {"fpn_depth": 1},
        {"box_loss": "ciou", "classification_loss": "binary_crossentropy"},
    ),
}
BOXES = {
    "a box without area": np.array([[[10, 10, 0, 0], [5, 5, 20, 20]]] * 2, "float32"),
    "no box": np.zeros((2, 0, 4), "float32"),
}


def backbone_of(spec=SPEC, **more):
    return rb.create_backbone(spec, input_shape=(64, 64, 3), **more)


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("name", DETECTORS)
def test_weights_stay_finite(name, boxes):
    build, arguments, losses = DETECTORS[name]
    model = getattr(rb.adapters.keras_cv, build)(backbone_of(), 3, "xywh", **arguments)
    model.compile(optimizer="sgd", jit_compile=False, **losses)
    model.fit(IMAGES, {"boxes": boxes, "classes": np.zeros(boxes.shape[:2], "float32")}, batch_size=2, verbose=0)
    assert all(np.isfinite(array).all() for array in model.get_weights())


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050", "regnety_002", "cs3darknet_s"])
def test_a_backbone_is_the_same_network_under_channels_first(name):
    backbone = backbone_of(name)
    keras.backend.set_image_data_format("channels_first")
    try:
        again = backbone_of(name)
        again.set_weights(backbone.get_weights())
        np.testing.assert_allclose(np.asarray(again(IMAGES)), np.asarray(backbone(IMAGES)), atol=1e-4)
        with pytest.raises(ValueError, match="'channels_first'; backbones are channels_last"):
            rb.adapters.keras_cv.image_classifier(again, 3)
    finally:
        keras.backend.set_image_data_format("channels_last")


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_a_file_is_the_same_network_under_any_floatx(floatx, tmp_path):
    backbone = backbone_of()
    backbone.save(tmp_path / "it.keras")
    keras.backend.set_floatx(floatx)
    try:
        again = rb.load_model(tmp_path / "it.keras")
        np.testing.assert_allclose(np.asarray(again(IMAGES)), np.asarray(backbone(IMAGES)), atol=1e-4)
    finally:
        keras.backend.set_floatx("float32")


def test_a_task_is_loaded_with_the_policy_it_was_made_under(tmp_path):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = rb.adapters.keras_cv.image_classifier(backbone_of(), 3)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    model.save(tmp_path / "it.keras")
    again = rb.load_model(tmp_path / "it.keras")
    assert [layer.compute_dtype for layer in again.layers] == [layer.compute_dtype for layer in model.layers]


def test_two_backbones_of_one_kind_with_names_are_called_by_one_model(tmp_path):
    left, right = backbone_of(model_name="left"), backbone_of(model_name="right")
    image = keras.Input((64, 64, 3))
    model = keras.Model(image, [left(image), right(image)])
    model.save(tmp_path / "it.keras")
    for before, after in zip(model(IMAGES), rb.load_model(tmp_path / "it.keras")(IMAGES), strict=True):
        np.testing.assert_allclose(np.asarray(after), np.asarray(before), atol=1e-4)
    with pytest.raises(ValueError, match="model_name must be letters"):
        backbone_of(model_name="left/eye")


@pytest.mark.parametrize("before", [0, 1, 6, 7])
def test_deeplab_loads_whatever_names_keras_has_numbered(before, tmp_path):
    keras.backend.clear_session()  # as in a new process
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3))
    model = rb.adapters.keras_cv.deeplab_v3_plus(backbone, num_classes=3)
    model.save(tmp_path / "m.keras")
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    keras.backend.clear_session()
    for _ in range(before):
        keras.Sequential()
    loaded = rb.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(np.asarray(loaded(images)), np.asarray(model(images)), atol=1e-6)
