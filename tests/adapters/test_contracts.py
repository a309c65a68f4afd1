from __future__ import annotations

import pytest

import resnet_backbones as rb
from resnet_backbones.adapters import keras_cv as adapter
from resnet_backbones.adapters.contracts import Contract, check
from resnet_backbones.keras_compat import keras

DETECTION = {"num_classes": 3, "bounding_box_format": "xywh"}
TASKS = {
    adapter.retinanet: DETECTION,
    adapter.yolo_v8_detector: DETECTION,
    adapter.deeplab_v3_plus: {"num_classes": 3},
    adapter.segformer: {"num_classes": 3},
}


def by_name(task):
    return task.__name__ if callable(task) else None


@pytest.mark.parametrize("task", TASKS, ids=by_name)
def test_a_missing_level_is_named(task):
    image = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(4, 1, strides=8, name="early")(image)
    backbone = rb.from_model(keras.Model(image, keras.layers.Conv2D(8, 1, strides=2, name="late")(x)), {"P3": "early"})
    with pytest.raises(ValueError, match=r"lacks .*P5.*from_model"):
        task(backbone, **TASKS[task])


@pytest.mark.parametrize("task", [adapter.retinanet, adapter.yolo_v8_detector, adapter.deeplab_v3_plus], ids=by_name)
def test_a_wrong_stride_is_named(task):
    backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, 3), output_stride=16)
    with pytest.raises(ValueError, match=r"stride 32 at level P5.*it is 16.*output_stride=32"):
        task(backbone, **TASKS[task])


@pytest.mark.parametrize("task", [adapter.retinanet, adapter.yolo_v8_detector, adapter.deeplab_v3_plus], ids=by_name)
def test_a_size_that_does_not_divide_is_an_error_that_names_the_next(task):
    backbone = rb.create_backbone("resnet10t", input_shape=(120, 120, 3))
    with pytest.raises(ValueError, match=r"divide by 32.*120x120.*128x128"):
        task(backbone, **TASKS[task])


def test_one_open_side_does_not_hide_the_other():
    backbone = rb.create_backbone("resnet10t", input_shape=(None, 120, 3))
    with pytest.raises(ValueError, match="Nonex128"):
        check(backbone, Contract("a task", multiple=32))


def test_segformer_needs_a_fixed_size():
    backbone = rb.create_backbone("resnet10t", input_shape=(None, None, 3))
    with pytest.raises(ValueError, match=r"fixed input size.*input_shape"):
        adapter.segformer(backbone, 3)


def test_segformer_needs_distinct_channels():
    image = keras.Input((64, 64, 3))
    x, levels = keras.layers.Conv2D(8, 1, strides=2)(image), {}
    for level in ("P2", "P3", "P4", "P5"):
        x = keras.layers.Conv2D(8, 1, strides=2, name=level)(x)
        levels[level] = level
    with pytest.raises(ValueError, match="no two may be equal"):
        adapter.segformer(rb.from_model(keras.Model(image, x), levels), 3)


@pytest.mark.parametrize("task", TASKS, ids=by_name)
def test_what_is_no_backbone_is_a_type_error(task):
    with pytest.raises(TypeError, match="create_backbone"):
        task("resnet18", **TASKS[task])
    with pytest.raises(TypeError, match="functional backbone"):
        task(keras.Sequential([keras.layers.Conv2D(4, 3)]), **TASKS[task])
    image = keras.Input((64, 64, 3))
    with pytest.raises(TypeError, match="from_model"):
        task(keras.Model(image, keras.layers.Conv2D(4, 3)(image)), **TASKS[task])


def test_image_classifier_needs_one_feature_map():
    image = keras.Input((64, 64, 3))
    flat = keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image)))
    with pytest.raises(ValueError, match="one feature map"):
        adapter.image_classifier(flat, 3)


def test_check_returns_the_levels_of_the_contract(backbone):
    info = check(backbone, Contract("Task", {"P3": 8, "P5": None}))
    assert {level: feature.stride for level, feature in info.items()} == {"P3": 8, "P5": 32}
    assert info["P3"] == backbone.feature_info["P3"]
