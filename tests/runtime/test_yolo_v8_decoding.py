"""The runtime's YOLOV8 decoder against KerasCV's own ``YOLOV8Detector.decode_predictions``, on random heads."""

from __future__ import annotations

from types import SimpleNamespace

import keras_cv
import numpy as np
import pytest

from resnet_backbones.runtime.decoders import Request, YOLOV8Decoder
from tests.support.detections import assert_decoded_alike

CLASSES = 6
THRESHOLDS = {"iou_threshold": 0.6, "confidence_threshold": 0.3, "max_detections": 80}
KINDS = ["NonMaxSuppression", "MultiClassNonMaxSuppression"]
FORMATS = ["xyxy", "center_yxhw", "rel_yxyx"]  # all of them: test_retinanet_decoding.py


def random_heads(size, *, logits=False):
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    random = np.random.default_rng(cells)
    scores = random.normal(-2, 2, (2, cells, CLASSES)).astype("float32")
    return {
        "boxes": random.normal(0, 3, (2, cells, 64)).astype("float32"),
        "classes": scores if logits else 1 / (1 + np.exp(-scores)),
    }


def decode_with_keras_cv(heads, size, box_format, kind, logits):
    detector = SimpleNamespace(  # all that decode_predictions reads of a YOLOV8Detector
        bounding_box_format=box_format,
        prediction_decoder=getattr(keras_cv.layers, kind)(box_format, from_logits=logits, **THRESHOLDS),
    )
    images = np.zeros((len(heads["boxes"]), *size, 3), "float32")
    found = keras_cv.models.YOLOV8Detector.decode_predictions(detector, heads, images)
    return {name: np.asarray(value) for name, value in found.items()}


def decoder(size, box_format, kind, logits=False):
    nms = {**THRESHOLDS, "from_logits": logits, "kind": kind, "max_detections_per_class": 100}
    return YOLOV8Decoder({"num_classes": CLASSES, "bounding_box_format": box_format, "nms": nms}, size)


def assert_decodes_as_keras_cv(size, box_format, kind, logits=False):
    heads = random_heads(size, logits=logits)
    theirs = decode_with_keras_cv(heads, size, box_format, kind, logits)
    assert_decoded_alike(decoder(size, box_format, kind, logits), heads, theirs, size, box_format)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(96, 96), (64, 160)], ids=str)
def test_equals_keras_cv_at_any_size(size, kind):
    assert_decodes_as_keras_cv(size, "xywh", kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("box_format", FORMATS)
def test_equals_keras_cv_in_any_box_format(box_format, kind):
    assert_decodes_as_keras_cv((96, 64), box_format, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_keras_cv_from_logits(kind):
    assert_decodes_as_keras_cv((96, 96), "xyxy", kind, logits=True)


def test_another_number_of_cells_is_an_error():
    heads = {name: value[0, :50] for name, value in random_heads((96, 96)).items()}
    with pytest.raises(ValueError, match="50 boxes"):
        decoder((96, 96), "xywh", "NonMaxSuppression")(heads, (96, 96), Request())


def test_boxes_that_are_decoded_already_are_an_error():
    heads = {"boxes": np.zeros((189, 4), "float32"), "classes": np.zeros((189, CLASSES), "float32")}
    with pytest.raises(ValueError, match="the last of 64"):
        decoder((96, 96), "xywh", "NonMaxSuppression")(heads, (96, 96), Request())
