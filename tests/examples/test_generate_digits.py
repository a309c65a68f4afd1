"""The digit artist's parts: the distance, the codes, one step of training, and what a quick run leaves behind."""

from __future__ import annotations

import digit_judge
import generate_digits as artist
import numpy as np
import pytest
import tensorflow as tf
from digits import plain_digits

from resnet_backbones.keras_compat import keras

CLASSES, CODE, SIZE = digit_judge.CLASSES, artist.CODE, artist.SIZE


@pytest.fixture
def eager():
    """A handful of steps is over before a graph of them is made."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_single_digits_are_gray_and_in_order():
    images, classes = plain_digits("validation", SIZE)
    assert images.shape == (447, SIZE, SIZE, 1)
    assert 0.0 <= images.min() < 0.1
    assert 0.9 < images.max() <= 1.0
    assert set(classes) == set(range(10))


def test_the_frechet_distance_is_that_of_normal_distributions():
    random = np.random.default_rng(0)
    first = random.normal(size=(20000, 3))
    assert digit_judge.frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert digit_judge.frechet_distance(first, first + [3, 0, 4]) == pytest.approx(25)
    # Standard deviations 1 and 2: (2 - 1)^2 in each of three directions.
    assert digit_judge.frechet_distance(first, 2 * first) == pytest.approx(3, rel=0.05)


def test_codes_are_drawn_as_the_codes_of_their_class():
    random = np.random.default_rng(0)
    centres = random.normal(0, 5, (CLASSES, CODE))
    classes = np.arange(4000) % CLASSES
    means = centres[classes] + random.normal(size=(4000, CODE)) * np.linspace(0.5, 2, CODE)

    class Encoder:
        def predict(self, inputs, **kwargs):
            return means, np.full(means.shape, np.log(0.25))

    codes = artist.Codes.of(Encoder(), np.zeros((4000, 1)), classes)
    sampled = codes.sample(random.normal(size=(4000, CODE)), classes)
    own = sampled[classes == 7]
    np.testing.assert_allclose(own.mean(axis=0), centres[7], atol=0.5)
    np.testing.assert_allclose(own.var(axis=0), np.linspace(0.5, 2, CODE) ** 2 + 0.25, rtol=0.5)


def test_tiles_stand_in_columns_of_their_class():
    images = np.zeros((2 * CLASSES, SIZE, SIZE, 1))
    images[3] = images[13] = 1.0
    tiled = artist.tiled(images)
    assert tiled.shape == (2 * SIZE, CLASSES * SIZE)
    assert tiled[:, 3 * SIZE : 4 * SIZE].all()
    assert tiled.sum() == 2 * SIZE * SIZE


def test_training_lowers_the_loss_and_draws_images(eager):
    images, classes = (part[:16] for part in plain_digits("train", SIZE))
    encoder, decoder = artist.build_encoder(), artist.build_decoder()
    step = artist.autoencoder_step(encoder, decoder, keras.optimizers.Adam(2e-3))
    batch = tf.constant(images), tf.constant(classes)
    losses = [float(step(*batch)) for _ in range(15)]
    assert losses[-1] < 0.9 * losses[0]
    drawn = artist.draw(decoder, np.zeros((3, CODE), "float32"), np.array([0, 1, 2]))
    assert drawn.shape == (3, SIZE, SIZE, 1)
    assert 0 <= drawn.min() <= drawn.max() <= 1


def test_the_end_must_beat_the_start_by_the_margin():
    start = digit_judge.Measure(0.1, 100.0)
    assert artist.better(start, digit_judge.Measure(0.9, 1.0))
    assert not artist.better(start, digit_judge.Measure(0.5, 1.0))
    assert not artist.better(start, digit_judge.Measure(0.9, 50.0))


def test_the_classifier_learns_and_gives_features(eager):
    images, classes = (part[:64] for part in plain_digits("train", SIZE))
    classifier = digit_judge.build_classifier(SIZE)
    seen, features = digit_judge.judge(classifier, images)
    assert seen.shape == (64,)
    assert features.shape == (64, 64)
    before = classifier.get_weights()[0]
    digit_judge.train_classifier(classifier, images, classes, epochs=1)
    assert np.abs(classifier.get_weights()[0] - before).max() > 0


def test_plots_are_written(tmp_path):
    history = [digit_judge.Measure(0.1, 10.0), digit_judge.Measure(0.9, 1.0)]
    images = np.zeros((50, SIZE, SIZE, 1))
    artist.plot(history, digit_judge.Measure(0.98, 0.1), images, images, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
