"""The runtime's RetinaNet decoder against KerasCV's own ``RetinaNet.decode_predictions``, on random heads."""

from __future__ import annotations

from types import SimpleNamespace

import keras_cv
import numpy as np
import pytest

from resnet_backbones.runtime.boxes import generate_anchors
from resnet_backbones.runtime.decoders import Request, RetinaNetDecoder
from resnet_backbones.runtime.decoders.nms import suppress, suppress_per_class
from tests.support.detections import assert_decoded_alike

CLASSES = 7
ANCHORS = {
    "sizes": [10.0, 20.0, 40.0, 80.0, 160.0],
    "scales": [1.0, 1.26, 1.5874],
    "aspect_ratios": [0.5, 1.0, 2.0],
    "strides": [8, 16, 32, 64, 128],
}
THRESHOLDS = {"iou_threshold": 0.45, "confidence_threshold": 0.3, "max_detections": 60}
KINDS = ["NonMaxSuppression", "MultiClassNonMaxSuppression"]
FORMATS = ["xywh", "xyxy", "yxyx", "center_xywh", "center_yxhw", "rel_xyxy", "rel_yxyx", "rel_xywh"]


def random_heads(size, *, spread=1.5):
    anchors = len(generate_anchors(*size, **ANCHORS, clip_boxes=True))
    random = np.random.default_rng(anchors)
    return {
        "box": random.normal(0, spread, (2, anchors, 4)).astype("float32"),
        "classification": random.normal(-3, 2, (2, anchors, CLASSES)).astype("float32"),
    }


def decode_with_keras_cv(heads, size, box_format, kind, anchor_format, clip_boxes):
    layers = keras_cv.layers
    detector = SimpleNamespace(  # all that decode_predictions reads of a RetinaNet
        anchor_generator=layers.AnchorGenerator(anchor_format, **ANCHORS, clip_boxes=clip_boxes),
        bounding_box_format=box_format,
        prediction_decoder=getattr(layers, kind)(box_format, from_logits=True, **THRESHOLDS),
    )
    images = np.zeros((len(heads["box"]), *size, 3), "float32")
    found = keras_cv.models.RetinaNet.decode_predictions(detector, heads, images)
    return {name: np.asarray(value) for name, value in found.items()}


def assert_decodes_as_keras_cv(heads, size, box_format, kind, *, anchor_format="yxyx", clip_boxes=True):
    theirs = decode_with_keras_cv(heads, size, box_format, kind, anchor_format, clip_boxes)
    nms = {**THRESHOLDS, "from_logits": True, "kind": kind, "max_detections_per_class": 100}
    anchors = {**ANCHORS, "clip_boxes": clip_boxes}
    variance = [0.1, 0.1, 0.2, 0.2]
    task = {"anchors": anchors, "box_variance": variance, "bounding_box_format": box_format, "nms": nms}
    assert_decoded_alike(RetinaNetDecoder(task, size), heads, theirs, size, box_format)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(96, 96), (64, 160), (256, 128)], ids=str)
def test_equals_keras_cv_at_any_size(size, kind):
    assert_decodes_as_keras_cv(random_heads(size), size, "xywh", kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("box_format", FORMATS)
def test_equals_keras_cv_in_every_box_format(box_format, kind):
    assert_decodes_as_keras_cv(random_heads((96, 64)), (96, 64), box_format, kind)


@pytest.mark.parametrize("anchor_format", ["xyxy", "rel_yxyx", "center_yxhw"])
@pytest.mark.parametrize("clip_boxes", [True, False])
def test_equals_keras_cv_for_any_anchors(anchor_format, clip_boxes):
    heads = random_heads((96, 96))
    options = {"anchor_format": anchor_format, "clip_boxes": clip_boxes}
    assert_decodes_as_keras_cv(heads, (96, 96), "xyxy", "NonMaxSuppression", **options)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_keras_cv_where_boxes_lie_outside_the_image(kind):
    heads = random_heads((96, 96), spread=0.3)
    heads["box"][..., :2] -= 25.0  # 2.5 anchor sizes up and to the left
    assert_decodes_as_keras_cv(heads, (96, 96), "yxyx", kind)


def test_another_number_of_boxes_than_anchors_is_an_error():
    nms = {**THRESHOLDS, "from_logits": True, "kind": "NonMaxSuppression"}
    anchors = {**ANCHORS, "clip_boxes": True}
    task = {"anchors": anchors, "box_variance": [1, 1, 1, 1], "bounding_box_format": "xywh", "nms": nms}
    outputs = {"box": np.zeros((5, 4), "float32"), "classification": np.zeros((5, 2), "float32")}
    with pytest.raises(ValueError, match="5 boxes"):
        RetinaNetDecoder(task, (96, 96))(outputs, (96, 96), Request())


def test_an_unknown_prediction_decoder_is_an_error():
    task = {
        "anchors": {**ANCHORS, "clip_boxes": True},
        "box_variance": [1, 1, 1, 1],
        "bounding_box_format": "xywh",
        "nms": {"kind": "SoftSuppression"},
    }
    with pytest.raises(ValueError, match="SoftSuppression"):
        RetinaNetDecoder(task, (96, 96))


def test_suppression_keeps_the_best_of_overlapping_boxes():
    boxes = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [20, 20, 30, 30], [0, 0, 10, 10]], "float32")
    scores = np.array([0.6, 0.9, 0.7, 0.1], "float32")
    limits = {"iou_threshold": 0.5, "score_threshold": 0.2}
    np.testing.assert_array_equal(suppress(boxes, scores, max_detections=10, **limits), [1, 2])
    np.testing.assert_array_equal(suppress(boxes, scores, max_detections=1, **limits), [1])


def test_suppression_per_class_keeps_overlapping_boxes_of_other_classes():
    boxes = np.array([[0, 0, 10, 10], [0, 1, 10, 11]], "float32")
    scores = np.array([[0.9, 0.0], [0.8, 0.7]], "float32")
    limits = {"iou_threshold": 0.5, "score_threshold": 0.2, "max_detections": 10, "max_detections_per_class": 10}
    kept, classes = suppress_per_class(boxes, scores, **limits)
    np.testing.assert_array_equal(kept, [0, 1])
    np.testing.assert_array_equal(classes, [0, 1])
