"""A digit classifier of our own as judge of drawn digits: which ones it sees, and how real they look to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras

CLASSES = 10
BATCH = 32
layers = keras.layers


@dataclass(frozen=True)
class Measure:
    """How good samples are.

    Args:
        accuracy: share in which the classifier sees the digit that was asked for.
        distance: Fréchet distance of the classifier's features between samples and held-out real digits.
    """

    accuracy: float
    distance: float


def build_classifier(size: int) -> Any:
    """A digit classifier on a registry backbone: image `(size, size, 1)` -> (logits, features before them)."""
    backbone = rb.create_backbone("resnet20", input_shape=(size, size, 1))
    features = layers.GlobalAveragePooling2D(name="features")(backbone.output)
    return keras.Model(backbone.input, [layers.Dense(CLASSES, name="logits")(features), features], name="classifier")


def train_classifier(classifier: Any, images: np.ndarray, classes: np.ndarray, epochs: int) -> None:
    """Trains on real digits, each moved about by up to two pixels."""
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, epochs * (len(images) // BATCH)))

    @tf.function
    def step(images: Any, classes: Any) -> Any:
        moved = tf.image.random_crop(tf.pad(images, [[0, 0], [2, 2], [2, 2], [0, 0]]), tf.shape(images))
        with tf.GradientTape() as tape:
            logits, _ = classifier(moved, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits))
        variables = classifier.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    run_epochs(step, images, classes, epochs, "classifier")


def judge(classifier: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes seen and features, `(N,)` and `(N, 64)`."""
    logits, features = classifier.predict(images, batch_size=250, verbose=0)
    return logits.argmax(axis=1), features


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Between two sets of features `(N, D)`, each taken for a normal distribution.

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson & Landau 1982).
    """
    first, second = first.astype("float64"), second.astype("float64")
    cov1, cov2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov2 @ root), 0)).sum()
    gap = first.mean(axis=0) - second.mean(axis=0)
    return float(gap @ gap + np.trace(cov1) + np.trace(cov2) - 2 * common)


def run_epochs(
    step: Any,
    images: np.ndarray,
    classes: np.ndarray,
    epochs: int,
    name: str,
    after: Callable[[int], dict[str, str]] = lambda epoch: {},
) -> None:
    """Runs a train step over shuffled batches under one progress bar.

    Args:
        step: (images, classes) -> loss.
        images: what to train on.
        classes: what they show.
        epochs: how often each image is seen.
        name: what the bar says.
        after: called with the number of each epoch, from 1, at its end; returns what the bar shall add.
    """
    data = tf.data.Dataset.from_tensor_slices((images, classes.astype("int64")))
    data = data.shuffle(len(images), seed=0).batch(min(BATCH, len(images)), drop_remainder=True).prefetch(2)
    with tqdm(total=epochs * len(data), desc=name, unit="step") as bar:
        for epoch in range(1, epochs + 1):
            losses = []
            for batch in data:
                losses.append(step(*batch))
                bar.update()
            bar.set_postfix(epoch=epoch, loss=f"{np.mean(losses):.3f}", **after(epoch))
