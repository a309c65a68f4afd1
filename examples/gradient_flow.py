"""Why residuals: plain and residual nets of 20 and 56 layers on real digits, in ReLU, ELU and SELU.

The nets are those of He et al. 2015, section 4.2 (https://arxiv.org/abs/1512.03385): a 3x3 convolution and three stages
of 16, 32 and 64 channels, with batch norm throughout. Their shortcuts have no parameters (its option A), so a plain net
is the residual net with its shortcuts taken out and nothing else; its block is registered below. For each of the twelve
nets this records the training loss at each step, and how large the gradient of each convolution is before and after
training. Batch norm keeps the values in bounds on the way up, but not the gradients on the way down: in plain nets they
grow from layer to layer (Yang et al. 2019, https://arxiv.org/abs/1902.08129).

    python examples/gradient_flow.py            # seven minutes on two busy cores
    python examples/gradient_flow.py --quick    # a smoke run; its figures mean nothing

Writes a file for each net as it ends, and gradient_flow.png in the manner of the paper's figure 6, to
runs/gradient_flow/. What is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow leaves oneDNN off on CPUs without AVX-512; with it these networks train 2 to 5 times faster there.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import tensorflow as tf
from digits import plain_digits
from tqdm import tqdm

import resnet_backbones as rb
from resnet_backbones._util.files import written_whole
from resnet_backbones.keras_compat import keras, keras_name  # Keras 3, or tf_keras with TF_USE_LEGACY_KERAS=1

RUNS = Path(__file__).resolve().parents[1] / "runs"
KINDS = ("plain", "residual")
CLASSES = 10


@dataclass(frozen=True)
class Plan:
    """What is trained, and for how long."""

    folder: str = "gradient_flow"
    depths: tuple[int, ...] = (20, 56)
    activations: tuple[str, ...] = ("relu", "elu", "selu")
    size: int = 12  # side of the images in pixels
    batch: int = 64
    steps: int = 126  # six times through the digits
    norm_batches: int = 4  # over so many batches the gradients' norms are averaged
    rate: float = 0.02  # the highest, after a tenth of the steps; with 0.05, the residual net of 56 layers learns badly


QUICK = Plan("gradient_flow-quick", depths=(8, 14), activations=("relu",), batch=16, steps=4, norm_batches=1)


@rb.register_block("plain")
def plain(net: Any, x: Any, plan: Any) -> Any:
    """The basic block without its shortcut: two 3x3 convolutions, each with batch norm and activation."""
    x = net.conv_norm_act(x, plan.filters, 3, plan.name, 1, strides=plan.strides, dilation=plan.first_dilation)
    return net.conv_norm_act(x, plan.filters, 3, plan.name, 2, dilation=plan.dilation)


def build(kind: str, depth: int, activation: str, size: int) -> Any:
    """A digit classifier, image `(size, size, 1)` -> logits, of `depth` layers: (depth - 2) / 6 blocks a stage."""
    backbone = rb.create_backbone(
        "resnet20",
        depths=((depth - 2) // 6,) * 3,  # resnet56 is resnet20 with more blocks, and so for any depth
        block={"plain": "plain", "residual": "basic"}[kind],
        activation=activation,
        zero_init_last=False,  # a block that starts as its shortcut has no gradient to show at first
        input_shape=(size, size, 1),
    )
    features = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(CLASSES)(features))


def kernels_in_order(model: Any) -> list[Any]:
    """The kernels on the way from image to logits, projections left out."""
    weighted = (keras.layers.Conv2D, keras.layers.Dense)
    return [layer.kernel for layer in model.layers if isinstance(layer, weighted) and "shortcut" not in layer.name]


def train_step(model: Any, optimizer: Any) -> Any:
    """The train step: (images, classes) -> loss, and the norm of the gradient of each kernel in order."""
    variables = model.trainable_variables
    places = [next(i for i, v in enumerate(variables) if v is kernel) for kernel in kernels_in_order(model)]

    @tf.function
    def step(images: Any, classes: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits))
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss, tf.stack([tf.norm(gradients[place]) for place in places])

    return step


def batches(images: np.ndarray, classes: np.ndarray, size: int, seed: int = 0) -> Iterator[tuple[Any, Any]]:
    """Batches without end, shuffled anew each time round; the same for every net."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(len(images))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            yield tf.constant(images[chosen]), tf.constant(classes[chosen])


def train(kind: str, depth: int, activation: str, plan: Plan, bar: Any) -> dict[str, Any]:
    """Trains one net; returns losses, norms before and after, and its accuracy on digits it has not seen."""
    began = time.process_time()
    keras.utils.set_random_seed(0)
    model = build(kind, depth, activation, plan.size)
    optimizer = keras.optimizers.SGD(plan.rate, momentum=0.9)
    step = train_step(model, optimizer)
    data = batches(*plain_digits("train", plan.size), plan.batch)

    def run(count: int, rate: Any) -> tuple[np.ndarray, np.ndarray]:
        losses, norms = [], []
        for number in range(count):
            optimizer.learning_rate = rate(number / count)
            loss, norm = step(*next(data))
            losses.append(float(loss))
            norms.append(norm.numpy())
            bar.update()
        return np.array(losses), np.mean(norms, axis=0)

    def still(_: float) -> float:
        return 0.0  # the net stays as it is while its gradients are measured

    def warm_cosine(done: float) -> float:
        return plan.rate * min(1.0, done / 0.1) * (1 + np.cos(np.pi * done)) / 2

    _, before = run(plan.norm_batches, still)
    losses, _ = run(plan.steps, warm_cosine)
    _, after = run(plan.norm_batches, still)
    images, classes = plain_digits("validation", plan.size)
    seen = model.predict(images, batch_size=149, verbose=0).argmax(axis=1)
    return {
        "losses": losses.tolist(),
        "norms_before": before.tolist(),
        "norms_after": after.tolist(),
        "test_accuracy": float(np.mean(seen == classes)),
        "cpu_seconds": time.process_time() - began,
    }


def smoothed(losses: list[float], window: int = 10) -> np.ndarray:
    """The mean of each loss and those up to `window - 1` steps before it."""
    sums = np.cumsum(np.concatenate([[0.0], losses]))
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def plot(results: dict[tuple[str, int, str], dict[str, Any]], path: Path) -> None:
    """Writes a PNG: an activation a row; losses of plain and residual nets, then their gradients, deep nets bold."""
    from matplotlib.figure import Figure

    activations = list(dict.fromkeys(activation for _, _, activation in results))
    shallow = min(depth for _, depth, _ in results)
    figure = Figure(figsize=(16, 3.6 * len(activations) + 0.4), layout="constrained")
    grid: Any = figure.subplots(len(activations), 4, squeeze=False)
    for row, activation in zip(grid, activations, strict=True):
        for (kind, depth, its), result in results.items():
            if its != activation:
                continue
            loss, gradient = row[KINDS.index(kind)], row[2 + KINDS.index(kind)]
            style = {"color": "tab:blue" if depth == shallow else "tab:red"}
            width = 1.1 if depth == shallow else 2.4
            loss.semilogy(smoothed(result["losses"]), linewidth=width, **style)
            for when, line in (("before", "-"), ("after", ":")):
                norms = result[f"norms_{when}"]
                label = f"{depth} layers, {when} training"
                place = np.linspace(0, 1, len(norms))
                gradient.semilogy(place, norms, line, linewidth=width, label=label, **style)
        for axis, kind in zip(row, 2 * KINDS, strict=True):
            axis.set_title(f"{kind}, {activation.upper()}", fontsize=11)
            axis.grid(alpha=0.3)
        row[0].set_ylabel("training loss")
        row[2].set_ylabel("norm of a kernel's gradient")
    for axis, label in zip(grid[-1], ("step", "step", *2 * ("depth: first layer 0, last 1",)), strict=True):
        axis.set_xlabel(label)
    for columns in (grid[:, :2], grid[:, 2:]):  # what is compared has one scale
        limits = np.array([axis.get_ylim() for axis in columns.flat])
        for axis in columns.flat:
            axis.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    figure.legend(*grid[0, 2].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> int:
    """Trains what is missing, draws the picture and prints the table; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean nothing")
    parser.add_argument("--out", type=Path, help="folder to write to")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else Plan()
    out = options.out or RUNS / plan.folder
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    settings = json.loads(json.dumps({**asdict(plan), "keras": keras_name()}))
    wanted = [(kind, depth, one) for one in plan.activations for depth in plan.depths for kind in KINDS]
    results = {}
    each = plan.steps + 2 * plan.norm_batches
    with tqdm(total=len(wanted) * each, unit="step") as bar:
        for kind, depth, activation in wanted:
            bar.set_description(f"{kind} {depth} {activation}")
            path = out / f"{kind}{depth}_{activation}.json"
            record = json.loads(path.read_text()) if path.exists() else {}
            if record.get("settings") == settings:
                bar.update(each)
            else:
                record = {"settings": settings, **train(kind, depth, activation, plan, bar)}
                with written_whole(path) as temporary:
                    temporary.write_text(json.dumps(record))
                keras.backend.clear_session()
            results[kind, depth, activation] = record
    plot(results, out / "gradient_flow.png")

    print(
        f"{'net':<20}{'loss, last 10 steps':>20}{'test accuracy':>15}{'gradient, first / last layer':>30}{'CPU s':>8}"
    )
    for (kind, depth, activation), one in results.items():
        loss, ratio = smoothed(one["losses"])[-1], one["norms_before"][0] / one["norms_before"][-2]
        name = f"{kind} {depth} {activation}"
        print(f"{name:<20}{loss:>20.4f}{one['test_accuracy']:>15.1%}{ratio:>30.2f}{one['cpu_seconds']:>8.0f}")
    print(f"The gradients' norms are those before training, last layer: the last convolution. Files are in {out}.")
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
