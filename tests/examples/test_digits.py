"""The examples' digits: known boxes, split digits, the same for the same seed."""

from __future__ import annotations

import digits
import numpy as np
import pytest


@pytest.fixture(scope="module")
def scenes():
    return digits.make_scenes(40, "validation", seed=3)


def test_the_same_seed_gives_the_same_scenes(scenes):
    again = digits.make_scenes(40, "validation", seed=3)
    other = digits.make_scenes(40, "validation", seed=4)
    np.testing.assert_array_equal(scenes.images, again.images)
    np.testing.assert_array_equal(scenes.boxes, again.boxes)
    assert (scenes.images != other.images).any()


def test_training_and_validation_share_no_digit():
    train, validation = digits._digits("train")[0], digits._digits("validation")[0]
    assert len(train) + len(validation) == 1797
    seen = {digit.tobytes() for digit in train}
    assert not [digit for digit in validation if digit.tobytes() in seen]


def test_boxes_lie_on_the_canvas_and_overlap_little(scenes):
    present = scenes.classes >= 0
    boxes = scenes.boxes[present]
    assert present.any(axis=1).all()
    assert set(scenes.classes[present]) <= set(range(10))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= digits.CANVAS).all()
    for placed, there in zip(scenes.boxes, present, strict=True):
        one_by_one = [tuple(box) for box in placed[there]]
        for index, box in enumerate(one_by_one):
            assert digits._overlap(box, one_by_one[:index]) <= digits.MAX_OVERLAP


def test_padding_is_minus_one(scenes):
    padding = scenes.classes < 0
    assert (scenes.boxes[padding] == -1).all()


def test_a_box_is_tight_round_the_ink():
    stroke = np.zeros((20, 20))
    stroke[4:9, 6:17] = 1
    assert digits._stroke_box(stroke) == (6, 4, 11, 5)


def test_an_enlarged_digit_keeps_its_range_and_its_mean():
    digit = digits._digits("train")[0][0]
    large = digits._enlarge(digit, 32)
    assert large.shape == (32, 32)
    assert large.min() >= 0
    assert large.max() <= 1
    assert large.mean() == pytest.approx(digit.mean(), abs=0.02)


def test_single_digits_come_with_their_class():
    images, classes = digits.make_single_digits(12, "train", canvas=48)
    assert images.shape == (12, 48, 48, 3)
    assert classes.shape == (12,)
    assert set(classes) <= set(range(10))


def test_the_stream_gives_what_detectors_take(scenes):
    batch = next(iter(digits.detection_stream(scenes, 8, seed=0)))
    assert batch["images"].shape == (8, digits.CANVAS, digits.CANVAS, 3)
    assert batch["images"].dtype == "float32"
    assert batch["bounding_boxes"]["boxes"].shape == (8, digits.MAX_DIGITS, 4)
    assert batch["bounding_boxes"]["classes"].shape == (8, digits.MAX_DIGITS)


def test_two_streams_of_one_seed_give_the_same_order(scenes):
    orders = [
        np.concatenate(
            [batch["bounding_boxes"]["boxes"].numpy() for batch in digits.detection_stream(scenes, 8, seed=5)]
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*orders)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'test'"):
        digits.make_scenes(1, "test")
