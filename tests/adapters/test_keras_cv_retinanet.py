"""RetinaNet's anchors, heads and decoder through the adapter."""

from __future__ import annotations

import json

import keras_cv
import numpy as np
import pytest

from resnet_backbones.adapters.keras_cv import retinanet
from resnet_backbones.adapters.keras_cv.parts import plain_anchor_generator
from resnet_backbones.keras_compat import keras
from resnet_backbones.runtime.decoders import Request, RetinaNetDecoder
from resnet_backbones.tasks import task_of

SMALL = {
    "sizes": [8.0, 16.0, 32.0, 64.0, 96.0],
    "scales": [1.0, 1.4],
    "aspect_ratios": [0.75, 1.0, 1.5],
    "strides": [8, 16, 32, 64, 128],
    "clip_boxes": True,
}
DETECTION = {"num_classes": 3, "bounding_box_format": "xywh"}


def anchors(**changes):
    return keras_cv.layers.AnchorGenerator(bounding_box_format="xywh", **{**SMALL, **changes})


def assert_same_anchors(ours, theirs, shape=(64, 64, 3)):
    ours, theirs = ours(image_shape=shape), theirs(image_shape=shape)
    assert len(ours) == len(theirs)
    for level, boxes in theirs.items():
        np.testing.assert_array_equal(ours[level], boxes)


def reload(model, path):
    model.save(path)
    return keras.models.load_model(path, compile=False)


def test_custom_anchors_are_saved_and_loaded(backbone, images, tmp_path):
    model = retinanet(backbone, anchor_generator=anchors(), **DETECTION)
    loaded = reload(model, tmp_path / "model.keras")
    assert_same_anchors(loaded.anchor_generator, model.anchor_generator)
    ours, theirs = model(images), loaded(images)
    for name in ours:
        np.testing.assert_allclose(np.asarray(ours[name]), np.asarray(theirs[name]), rtol=1e-5, atol=1e-6)
    assert task_of(loaded).metadata(loaded) == task_of(model).metadata(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": tuple(SMALL["sizes"]), "strides": tuple(SMALL["strides"])},
        {"scales": np.array(SMALL["scales"]), "aspect_ratios": np.array(SMALL["aspect_ratios"])},
        {"sizes": dict(enumerate(SMALL["sizes"])), "strides": dict(enumerate(SMALL["strides"]))},
    ],
    ids=["tuples", "arrays", "dictionaries"],
)
def test_anchors_however_they_were_given_survive_a_file(changes):
    given = anchors(**changes)
    config = keras.saving.serialize_keras_object(plain_anchor_generator(given))
    assert_same_anchors(keras.saving.deserialize_keras_object(json.loads(json.dumps(config))), given)


def test_heads_follow_the_number_of_anchors_and_the_depth(backbone, images, tmp_path):
    model = retinanet(backbone, anchor_generator=anchors(), head_depth=1, **DETECTION)
    cells = 8 * 8 + 4 * 4 + 2 * 2 + 1 + 1
    assert tuple(model(images)["box"].shape) == (2, cells * 6, 4)
    assert tuple(model(images)["classification"].shape) == (2, cells * 6, 3)
    loaded = reload(model, tmp_path / "model.keras")
    for head in (loaded.box_head, loaded.classification_head):
        assert len(head.conv_layers) == 1


def test_without_anchors_it_is_keras_cv_s_own_retinanet(backbone):
    ours = retinanet(backbone, **DETECTION)
    theirs = keras_cv.models.RetinaNet(backbone, **DETECTION)
    assert [weight.shape for weight in ours.get_weights()] == [weight.shape for weight in theirs.get_weights()]
    assert_same_anchors(ours.anchor_generator, theirs.anchor_generator)
    bias = ours.classification_head.prediction_layer.bias
    np.testing.assert_allclose(np.asarray(bias), -np.log(99), rtol=1e-6)  # one anchor in a hundred at the start


def test_custom_decoder_thresholds_are_saved_and_loaded(backbone, tmp_path):
    decoder = keras_cv.layers.MultiClassNonMaxSuppression(
        "xywh", from_logits=True, iou_threshold=0.3, confidence_threshold=0.05, max_detections=20
    )
    model = retinanet(backbone, prediction_decoder=decoder, **DETECTION)
    metadata = task_of(model).metadata(model)
    assert metadata["nms"] == {
        "kind": "MultiClassNonMaxSuppression",
        "bounding_box_format": "xywh",
        "from_logits": True,
        "iou_threshold": 0.3,
        "confidence_threshold": 0.05,
        "max_detections": 20,
        "max_detections_per_class": 100,
    }
    loaded = reload(model, tmp_path / "model.keras")
    assert task_of(loaded).metadata(loaded) == metadata


def test_the_runtime_decodes_from_the_metadata_as_the_model_does(backbone, images):
    decoder = keras_cv.layers.NonMaxSuppression("xywh", from_logits=True, confidence_threshold=0.5)
    model = retinanet(backbone, anchor_generator=anchors(), prediction_decoder=decoder, **DETECTION)
    random = np.random.default_rng(5)
    shapes = {name: value.shape for name, value in model(images).items()}
    heads = {name: random.normal(-1, 1.5, shape).astype("float32") for name, shape in shapes.items()}
    theirs = {name: np.asarray(value) for name, value in model.decode_predictions(heads, images).items()}
    runtime = RetinaNetDecoder(task_of(model).metadata(model), images.shape[1:3])
    for index, count in enumerate(theirs["num_detections"]):
        ours = runtime({name: value[index] for name, value in heads.items()}, images.shape[1:3], Request())
        assert len(ours) == count > 0
        np.testing.assert_array_equal(ours.classes, theirs["classes"][index][:count])
        np.testing.assert_allclose(ours.boxes, theirs["boxes"][index][:count], atol=1e-3)


def test_a_label_encoder_brings_its_own_anchors(backbone, images, box_labels, tmp_path):
    encoder = keras_cv.models.retinanet.LabelEncoder("xywh", anchors(), positive_threshold=0.6)
    loaded = reload(retinanet(backbone, label_encoder=encoder, **DETECTION), tmp_path / "model.keras")
    assert loaded.label_encoder.positive_threshold == 0.6
    assert task_of(loaded).metadata(loaded)["anchors"] == {**SMALL, "bounding_box_format": "xywh"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda: {"anchor_generator": anchors(strides=[4, 8, 16, 32, 64])}, "strides"),
        (lambda: {"anchor_generator": anchors(sizes=[8.0, 16.0], strides=[8, 16])}, "five sizes"),
        (lambda: {"anchor_generator": anchors(sizes=[[8.0, 9.0]] * 5)}, "one size a level"),
        (lambda: {"head_depth": 0}, "head_depth"),
        (lambda: {"feature_pyramid": keras.layers.Layer()}, "feature_pyramid"),
        (
            lambda: {"box_head": keras_cv.models.retinanet.PredictionHead(36, "zeros"), "anchor_generator": anchors()},
            "box_head gives 36 channels; 6 anchors a cell need 24",
        ),
        (
            lambda: {
                "label_encoder": keras_cv.models.retinanet.LabelEncoder("xywh", anchors(), box_variance=(1, 1, 1, 1))
            },
            "box_variance",
        ),
        (
            lambda: {
                "label_encoder": keras_cv.models.retinanet.LabelEncoder("xywh", anchors()),
                "anchor_generator": anchors(),
            },
            "not both",
        ),
    ],
    ids=["strides", "levels", "sizes", "depth", "pyramid", "head", "variance", "both"],
)
def test_parts_that_do_not_fit_are_errors(backbone, arguments, words):
    with pytest.raises(ValueError, match=words):
        retinanet(backbone, **arguments(), **DETECTION)
