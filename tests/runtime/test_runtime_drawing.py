from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from resnet_backbones.runtime import Classification, Detections, Segmentation
from resnet_backbones.runtime.boxes import from_yxyx, to_yxyx
from resnet_backbones.runtime.drawing import color_of

FORMATS = ["xywh", "xyxy", "yxyx", "center_xywh", "center_yxhw", "rel_xyxy", "rel_yxyx", "rel_xywh"]
GREY = np.full((400, 600, 3), 90, "uint8")


def found(**changes):
    values = {
        "boxes": np.array([[100, 50, 200, 300], [590, 390, 50, 50], [-20, -20, 60, 60]], "float32"),
        "classes": np.array([0, 1, 2]),
        "scores": np.array([0.9, 0.8, 0.7], "float32"),
        "names": ["circle", "square", "star"],
        "box_format": "xywh",
    }
    return Detections(**{**values, **changes})


def has_color(picture, color):
    return (np.asarray(picture) == color).all(-1)


def test_boxes_are_drawn_where_they_are_in_their_class_s_color():
    picture = found().draw(GREY)
    assert picture.size == (600, 400)
    rows, columns = np.nonzero(has_color(picture, color_of(0)))
    assert abs(rows.max() - 350) <= 2
    assert abs(columns.min() - 100) <= 2
    assert abs(columns.max() - 300) <= 2
    assert has_color(picture, color_of(1)).any()
    assert has_color(picture, color_of(2)).any()
    assert (GREY == 90).all(), "the image itself stays as it was"


@pytest.mark.parametrize("box_format", FORMATS)
def test_every_box_format_can_be_drawn_and_converted_back(box_format):
    boxes = np.array([[10, 20, 100, 200], [0, 0, 400, 600]], "float32")
    given = from_yxyx(boxes, box_format, 400, 600)
    np.testing.assert_allclose(to_yxyx(given, box_format, 400, 600), boxes, atol=1e-3)
    ours = Detections(given, np.array([0, 1]), np.array([0.5, 0.4]), None, box_format).draw(GREY)
    theirs = Detections(boxes, np.array([0, 1]), np.array([0.5, 0.4]), None, "yxyx").draw(GREY)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_boxes_without_a_format_cannot_be_drawn():
    with pytest.raises(ValueError, match="box_format"):
        found(box_format=None).draw(GREY)


def test_nothing_found_draws_the_image():
    nothing = Detections(np.zeros((0, 4), "float32"), np.zeros(0, "int64"), np.zeros(0), [], "xywh")
    np.testing.assert_array_equal(np.asarray(nothing.draw(GREY)), GREY)


def test_small_pictures_are_enlarged_so_that_names_can_be_read(tmp_path):
    small = np.full((64, 96, 3), 90, "uint8")
    one = Detections(np.array([[10, 10, 30, 30]], "float32"), np.array([0]), np.array([0.9]), ["x"], "xywh")
    assert one.draw(small).size == (96 * 7, 64 * 7)
    assert one.draw(small, zoom=1).size == (96, 64)
    columns = np.nonzero(has_color(one.draw(small), color_of(0)))[1]
    assert abs(columns.min() - 70) <= 4
    Image.fromarray(small).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(one.draw(tmp_path / "a.png")), np.asarray(one.draw(small)))
    with pytest.raises(ValueError, match="zoom"):
        one.draw(small, zoom=0)


def test_classes_are_written_below_the_image():
    result = Classification(np.array([2, 0]), np.array([0.75, 0.25]), ["a long name " * 20, "cat"])
    picture = result.draw(GREY)
    assert picture.width == 600
    assert picture.height > 400
    np.testing.assert_array_equal(np.asarray(picture)[:400], GREY)


def test_segments_are_laid_over_the_image_and_background_is_left():
    classes = np.zeros((400, 600), "int64")
    classes[:, 300:] = 3
    picture = np.asarray(Segmentation(classes, None, ["ground", "a", "b", "c"]).draw(GREY, opacity=0.5))
    np.testing.assert_array_equal(picture[300, 100], [90, 90, 90])
    np.testing.assert_allclose(picture[300, 500], (np.array(color_of(3)) + 90) / 2, atol=1)
    everything = np.asarray(Segmentation(classes).draw(GREY, opacity=1, background=None))
    np.testing.assert_array_equal(everything[300, 100], color_of(0))
    with pytest.raises(ValueError, match="image that was predicted on"):
        Segmentation(classes).draw(GREY[:100])


@pytest.mark.parametrize(
    "image", [GREY[..., 0], GREY[..., :1], GREY / 255, GREY.astype("float32"), np.dstack([GREY, GREY[..., :1]])]
)
def test_any_kind_of_array_can_be_drawn_on(image):
    picture = found(boxes=np.zeros((3, 4), "float32")).draw(image)
    np.testing.assert_array_equal(np.asarray(picture)[200, 300], [90, 90, 90])


def test_results_become_json():
    for result in (
        found(),
        Classification(np.array([1]), np.array([0.5], "float32")),
        Segmentation(np.zeros((2, 2), int)),
    ):
        assert json.loads(json.dumps(result.to_dict())) == result.to_dict()
    assert found().to_dict()["boxes"][0] == [100, 50, 200, 300]


def test_drawing_without_pillow_says_which_extra_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"resnet-backbones\[images\]"):
        found().draw(GREY)
