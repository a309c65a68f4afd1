"""Draws handwritten digits with residual blocks: a variational autoencoder that is told which digit to draw.

A registry backbone reads a digit into a code of a few numbers, and a decoder of `ResidualUpBlock`s draws it again from
code and class (Kingma & Welling 2013, https://arxiv.org/abs/1312.6114; with classes, Sohn et al. 2015, "Learning
Structured Output Representation using Deep Conditional Generative Models"). New digits come from random codes, drawn
from a normal distribution fitted to the codes of the real digits of a class (Ghosh et al. 2019,
https://arxiv.org/abs/1903.12436).

A classifier of our own, a residual net of the registry trained on real digits, says how often it sees the digit that
was asked for. Its features say how far the drawn digits as a whole are from real ones that nothing was trained on
(Fréchet distance, Heusel et al. 2017, https://arxiv.org/abs/1706.08500).

    python examples/generate_digits.py            # seven minutes on two busy cores
    python examples/generate_digits.py --quick    # a smoke run; its figures mean nothing

Writes a grid of samples after each epoch, a figure, the measures and the decoder to runs/generate_digits/. Exits with 1
unless the samples of the end beat those of the start by `MARGIN` (a quick run need not).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow leaves oneDNN off on CPUs without AVX-512; with it these networks train 2 to 5 times faster there.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import tensorflow as tf
from digit_judge import BATCH, CLASSES, Measure, build_classifier, frechet_distance, judge, run_epochs, train_classifier
from digits import plain_digits
from matplotlib.image import imsave

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras, keras_name  # Keras 3, or tf_keras with TF_USE_LEGACY_KERAS=1

SIZE = 32  # side of the images
CODE = 16  # numbers in a code
RUNS = Path(__file__).resolve().parents[1] / "runs"
layers = keras.layers


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    folder: str = "generate_digits"
    classifier_epochs: int = 10
    epochs: int = 15
    samples: int = 1000  # drawn for each measurement
    digits: int | None = None  # real digits used; all


QUICK = Plan(folder="generate_digits-quick", classifier_epochs=1, epochs=2, samples=50, digits=128)


@dataclass(frozen=True)
class Margin:
    """What the end must have over the start, or the script fails."""

    accuracy: float = 0.5  # gained, of 1
    distance: float = 0.2  # left, of 1


MARGIN = Margin()


def build_encoder() -> Any:
    """Image and class -> mean and log variance of its code, on a small backbone of the registry's kind."""
    spec = rb.ResNetSpec(block="basic", depths=(1, 1, 1, 1), widths=(16, 32, 64, 128), stem="deep", stem_width=16)
    backbone = rb.create_backbone(spec, input_shape=(SIZE, SIZE, 1))
    wanted = layers.Input((CLASSES,), name="class")
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(backbone.output), wanted])
    x = layers.Dense(128, activation="relu")(x)
    outputs = [layers.Dense(CODE, name="mean")(x), layers.Dense(CODE, name="log_variance")(x)]
    return keras.Model([backbone.input, wanted], outputs, name="encoder")


def build_decoder() -> Any:
    """Code and class -> logits of an image: 4x4 pixels, and three blocks that double them."""
    code, wanted = layers.Input((CODE,), name="code"), layers.Input((CLASSES,), name="class")
    x = layers.Dense(4 * 4 * 64, activation="relu")(layers.Concatenate()([code, wanted]))
    x = layers.Reshape((4, 4, 64))(x)
    for filters in (64, 32, 16):
        x = rb.ResidualUpBlock(filters)(x)
    return keras.Model([code, wanted], layers.Conv2D(1, 3, padding="same", name="logits")(x), name="decoder")


def autoencoder_step(encoder: Any, decoder: Any, optimizer: Any) -> Any:
    """The train step: (images, classes) -> loss, minus the lower bound of the images' likelihood, in nats an image."""
    variables = encoder.trainable_variables + decoder.trainable_variables

    @tf.function
    def step(images: Any, classes: Any) -> Any:
        wanted = tf.one_hot(classes, CLASSES)
        with tf.GradientTape() as tape:
            mean, log_variance = encoder([images, wanted], training=True)
            code = mean + tf.exp(log_variance / 2) * tf.random.normal(tf.shape(mean))
            drawn = decoder([code, wanted], training=True)
            pixels = tf.nn.sigmoid_cross_entropy_with_logits(images, drawn)
            divergence = (tf.square(mean) + tf.exp(log_variance) - log_variance - 1) / 2
            loss = (tf.reduce_sum(pixels) + tf.reduce_sum(divergence)) / tf.cast(tf.shape(images)[0], tf.float32)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return step


@dataclass(frozen=True)
class Codes:
    """A normal distribution of codes for each class: `means` `(CLASSES, CODE)`, `roots` of the covariances."""

    means: np.ndarray
    roots: np.ndarray

    @classmethod
    def of(cls, encoder: Any, images: np.ndarray, classes: np.ndarray) -> Codes:
        """Fitted to the codes of real digits, each of them a small cloud round its mean."""
        wanted = np.eye(CLASSES, dtype="float32")[classes]
        means, log_variances = encoder.predict([images, wanted], batch_size=250, verbose=0)
        of_class = [classes == digit for digit in range(CLASSES)]
        spread = [np.cov(means[own], rowvar=False) + np.diag(np.exp(log_variances[own]).mean(0)) for own in of_class]
        return cls(np.stack([means[own].mean(axis=0) for own in of_class]), np.linalg.cholesky(np.stack(spread)))

    def sample(self, noise: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Codes `(N, CODE)` for digits of these classes, from standard normal noise `(N, CODE)`."""
        return (self.means[classes] + np.einsum("nij,nj->ni", self.roots[classes], noise)).astype("float32")


def draw(decoder: Any, codes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Images `(N, SIZE, SIZE, 1)`, 0 to 1, of digits of these classes."""
    logits = decoder.predict([codes, np.eye(CLASSES, dtype="float32")[classes]], batch_size=250, verbose=0)
    return 1 / (1 + np.exp(-logits))


def tiled(images: np.ndarray) -> np.ndarray:
    """Images `(N, SIZE, SIZE, 1)` as one, a column for each class."""
    rows = len(images) // CLASSES
    grid = images[: rows * CLASSES, :, :, 0].reshape(rows, CLASSES, SIZE, SIZE)
    return grid.transpose(0, 2, 1, 3).reshape(rows * SIZE, CLASSES * SIZE)


def plot(history: list[Measure], real: Measure, samples: np.ndarray, digits: np.ndarray, path: Path) -> None:
    """Writes a PNG: real digits and samples beside the two measures over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False)[0]
    pictures = {"real digits, held out": digits, "drawn, after the last epoch": samples}
    for axis, (title, images) in zip(left.subplots(2, 1), pictures.items(), strict=True):
        axis.imshow(tiled(images), cmap="gray", vmin=0, vmax=1)
        axis.set_axis_off()
        axis.set_title(title, fontsize=11)
    above, below = right.subplots(2, 1, sharex=True)
    for axis, name, label in ((above, "accuracy", "digit asked for is seen"), (below, "distance", "Fréchet distance")):
        axis.plot(range(len(history)), [getattr(measure, name) for measure in history], marker="o", markersize=3)
        axis.axhline(getattr(real, name), color="gray", linestyle="--", linewidth=1, label="real digits")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend()
    above.set_ylim(0, 1.02)
    below.set_yscale("log")
    below.set_xlabel("epoch")
    figure.savefig(path, dpi=110)


def better(start: Measure, end: Measure) -> bool:
    """Whether the end beats the start by `MARGIN`."""
    return end.accuracy >= start.accuracy + MARGIN.accuracy and end.distance <= start.distance * MARGIN.distance


def main(arguments: list[str] | None = None) -> int:
    """Runs it all; see the top of this file. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean nothing")
    parser.add_argument("--out", type=Path, help="folder to write to")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else Plan()
    out = options.out or RUNS / plan.folder
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    keras.utils.set_random_seed(0)
    print(f"Digits of {SIZE}x{SIZE} pixels, on {keras_name()}")

    train_images, train_classes = (part[: plan.digits] for part in plain_digits("train", SIZE))
    test_images, test_classes = (part[: plan.digits] for part in plain_digits("validation", SIZE))
    classifier = build_classifier(SIZE)
    train_classifier(classifier, train_images, train_classes, plan.classifier_epochs)
    seen, test_features = judge(classifier, test_images)
    _, train_features = judge(classifier, train_images)
    real = Measure(float(np.mean(seen == test_classes)), frechet_distance(train_features, test_features))
    print(f"The classifier knows {real.accuracy:.1%} of {len(test_classes)} digits it was not trained on.")

    encoder, decoder = build_encoder(), build_decoder()
    noise = np.random.default_rng(0).normal(size=(plan.samples, CODE))  # the same each time: one sees a digit change
    wanted = np.arange(plan.samples) % CLASSES
    history: list[Measure] = []

    def measure(epoch: int) -> dict[str, str]:
        codes = Codes.of(encoder, train_images, train_classes)
        images = draw(decoder, codes.sample(noise, wanted), wanted)
        grid = np.kron(tiled(images[: 8 * CLASSES]), np.ones((2, 2)))
        imsave(out / f"epoch_{epoch:02d}.png", grid, cmap="gray", vmin=0, vmax=1)
        classes, features = judge(classifier, images)
        history.append(Measure(float(np.mean(classes == wanted)), frechet_distance(features, test_features)))
        return {"accuracy": f"{history[-1].accuracy:.3f}", "distance": f"{history[-1].distance:.2f}"}

    measure(0)
    steps = plan.epochs * (len(train_images) // BATCH)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, steps))
    step = autoencoder_step(encoder, decoder, optimizer)
    run_epochs(step, train_images, train_classes, plan.epochs, "autoencoder", measure)

    decoder.save(out / "decoder.keras")
    codes = Codes.of(encoder, train_images, train_classes)
    np.savez(out / "codes.npz", **asdict(codes))
    drawn = draw(decoder, codes.sample(noise, wanted)[:50], wanted[:50])
    some = np.stack([np.resize(np.flatnonzero(test_classes == digit), 5) for digit in range(CLASSES)], axis=1)
    plot(history, real, drawn, test_images[some.ravel()], out / "generate_digits.png")
    start, end = history[0], history[-1]
    succeeded, minutes = better(start, end), (time.perf_counter() - began) / 60
    record = {"keras": keras_name(), "quick": options.quick, "minutes": minutes, "plan": asdict(plan)}
    record |= {"margin": asdict(MARGIN), "better": succeeded, "real": asdict(real)}
    record["epochs"] = [asdict(measured) for measured in history]
    (out / "results.json").write_text(json.dumps(record, indent=2) + "\n")

    print(f"\n{'samples':<28}{'digit asked for is seen':>24}{'Fréchet distance':>18}")
    named = {"before training": start, "after the first epoch": history[1], "after the last epoch": end}
    for name, one in {**named, "real digits, for comparison": real}.items():
        print(f"{name:<28}{one.accuracy:>24.1%}{one.distance:>18.3f}")
    print(
        f"Accuracy {end.accuracy - start.accuracy:+.1%} (asked: at least {MARGIN.accuracy:+.0%}), distance "
        f"{end.distance / start.distance:.1%} of the start's (asked: at most {MARGIN.distance:.0%}): "
        f"{'better, by the margin' if succeeded else 'NOT better by the margin'}."
    )
    print(
        f"Samples, generate_digits.png, results.json, decoder.keras and codes.npz are in {out}. {minutes:.1f} minutes."
    )
    return 0 if succeeded or options.quick else 1


if __name__ == "__main__":
    sys.exit(main())
