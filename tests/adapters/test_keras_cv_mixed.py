"""KerasCV's detectors under mixed precision, where what concerns boxes is computed in float32; and open sizes."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from tests.support.nets import SPEC, even_images

IMAGES = even_images(0, 255, 2, 64, 64, 3)
LABELS = {
    "boxes": np.array([[[10, 10, 20, 20], [5, 5, 30, 20]]] * 2, "float32"),
    "classes": np.zeros((2, 2), "float32"),
}
LOSSES = {
    "retinanet": {"box_loss": "smoothl1", "classification_loss": "focal"},
    "yolo_v8_detector": {"box_loss": "ciou", "classification_loss": "binary_crossentropy"},
}


def detector(name, policy, backbone_policy):
    """The task's own layers under one policy, the backbone's under another."""
    small = {"head_depth": 1} if name == "retinanet" else {"fpn_depth": 1}
    try:
        keras.mixed_precision.set_global_policy(backbone_policy)
        backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3))
        keras.mixed_precision.set_global_policy(policy)
        model = getattr(rb.adapters.keras_cv, name)(backbone, 3, "xywh", **small)
        model.compile(optimizer="sgd", jit_compile=False, **LOSSES[name])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    return model


@pytest.mark.parametrize("name", LOSSES)
def test_detectors_train_and_predict(name):
    policy = "mixed_float16"
    model = detector(name, policy, policy)
    keras.mixed_precision.set_global_policy(policy)
    try:
        model.fit(IMAGES, LABELS, batch_size=2, verbose=0)
        found = model.predict(IMAGES, verbose=0)
        assert keras.mixed_precision.global_policy().name == policy
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert all(np.isfinite(array).all() for array in model.get_weights())
    assert found["boxes"].dtype == np.float32
    assert np.isfinite(found["boxes"]).all()


def test_a_yolo_of_two_policies_is_refused_where_it_cannot_be_built():
    if IS_KERAS_3:
        assert detector("yolo_v8_detector", "mixed_bfloat16", "float32").output["classes"].shape[-1] == 3
        return
    with pytest.raises(ValueError, match="Create the backbone and the detector under the same global policy"):
        detector("yolo_v8_detector", "mixed_bfloat16", "float32")


@pytest.mark.parametrize("name", LOSSES)
def test_boxes_are_those_of_the_raw_outputs_in_float32(name):
    """A coordinate of several hundred pixels has steps of half a pixel in float16."""
    mixed, plain = detector(name, "mixed_float16", "mixed_float16"), detector(name, "float32", "float32")
    mixed.prediction_decoder.confidence_threshold = plain.prediction_decoder.confidence_threshold = 0.0
    raw = {key: np.asarray(value, "float32") for key, value in mixed(IMAGES, training=False).items()}
    found, expected = (model.decode_predictions(raw, IMAGES) for model in (mixed, plain))
    for key in expected:
        np.testing.assert_array_equal(np.asarray(found[key]), np.asarray(expected[key]))


@pytest.mark.parametrize("build", ["retinanet", "yolo_v8_detector", "deeplab_v3_plus"])
@pytest.mark.parametrize("size", [(None, None), (64, None), (None, 64)])
def test_an_open_size_is_refused(build, size):
    """KerasCV's tasks run on the first size of such a backbone and fail on the second."""
    backbone = rb.create_backbone(SPEC, input_shape=(*size, 3))
    formats = () if build == "deeplab_v3_plus" else ("xywh",)
    with pytest.raises(ValueError, match=r"needs a fixed input size.*input_shape=\(512, 512, 3\)"):
        getattr(rb.adapters.keras_cv, build)(backbone, 3, *formats)
