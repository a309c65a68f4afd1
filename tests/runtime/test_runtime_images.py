from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones.runtime.images import as_image_list, resize_bilinear


@pytest.mark.parametrize("old", [(48, 64), (200, 33), (96, 96), (1, 5)], ids=str)
@pytest.mark.parametrize("new", [(96, 96), (32, 50)], ids=str)
def test_resizes_as_tensorflow_does(old, new):
    image = np.random.default_rng(0).uniform(0, 255, (*old, 3)).astype("float32")
    np.testing.assert_allclose(resize_bilinear(image, *new), tf.image.resize(image, new).numpy(), atol=1e-3)


def test_an_image_of_the_right_size_is_left_alone():
    image = np.arange(48, dtype="uint8").reshape(4, 4, 3)
    np.testing.assert_array_equal(resize_bilinear(image, 4, 4), image.astype("float32"))


def test_takes_a_batch_one_image_or_a_list_of_sizes():
    assert [image.shape for image in as_image_list(np.zeros((2, 4, 5, 3)), 3)] == [(4, 5, 3)] * 2
    assert [image.shape for image in as_image_list(np.zeros((4, 5, 3)), 3)] == [(4, 5, 3)]
    mixed = [np.zeros((4, 5, 3)), np.zeros((9, 2, 3))]
    assert [image.shape for image in as_image_list(mixed, 3)] == [(4, 5, 3), (9, 2, 3)]
    assert as_image_list([np.zeros((4, 5))], 1)[0].shape == (4, 5, 1)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((4, 5)), "images has shape"),
        ([np.zeros((4, 5))], "image 0 has shape"),
        (np.zeros((1, 3, 4, 5)), "channels last"),
        ([np.zeros((4, 5, 3)), np.zeros((4, 0, 3))], "image 1 has shape"),
        (np.full((4, 5, 3), "x"), "numbers are needed"),
    ],
)
def test_images_that_do_not_fit_are_an_error(images, words):
    with pytest.raises(ValueError, match=words):
        as_image_list(images, 3)
