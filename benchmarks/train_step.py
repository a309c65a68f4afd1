"""What a training step of ResNet-50 costs: this library's and its peers', measured in turns.

Every measurement is a fresh process that builds one network, trains it on one batch a few times and says what the
cheapest step took: CPU seconds (of all threads; hardly disturbed by what else the machine does), wall-clock seconds,
and the largest memory of the process. Results go to runs/train_step.json as they come, the table to runs/train_step.md;
a stopped run goes on where it was (rounds.py).

    python benchmarks/train_step.py                     # about 20 minutes on two cores
    python benchmarks/train_step.py --onednn --only resnet50_v1 kerascv
    python benchmarks/train_step.py --rounds 1 --steps 1 --size 64 --batch 2 --results /tmp/try.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rounds import CLASSES, ROOT, Figures, cheapest_step, in_own_process, in_turns, random_batch, report


def ours(name: str) -> Callable[[Any, int], Any]:
    """How this library builds ``name``, on whichever Keras runs."""

    def build(_keras: Any, size: int) -> Any:
        sys.path.insert(0, str(ROOT))
        import resnet_backbones as rb

        return rb.create_backbone(name, input_shape=(size, size, 3))

    return build


def without_batch_norm(_keras: Any, size: int) -> Any:
    """``resnet50_v1`` with nothing in the place of its batch norms: what no batch norm, however fast, can beat."""
    from unittest.mock import patch

    sys.path.insert(0, str(ROOT))
    import resnet_backbones as rb
    from resnet_backbones.backbones.keras_builder import KerasParts

    with patch.object(KerasParts, "batch_norm", lambda parts, x, name, zero=False: x):
        return rb.create_backbone("resnet50_v1", input_shape=(size, size, 3))


def applications(keras: Any, size: int) -> Any:
    """keras.applications', or tf_keras.applications'."""
    return keras.applications.ResNet50(weights=None, include_top=False, input_shape=(size, size, 3))


def kerascv(_keras: Any, size: int) -> Any:
    """KerasCV's."""
    import keras_cv

    return keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 128, 256, 512],
        stackwise_blocks=[3, 4, 6, 3],
        stackwise_strides=[1, 2, 2, 2],
        include_rescaling=False,
        input_shape=(size, size, 3),
    )


def kerashub(_keras: Any, size: int) -> Any:
    """KerasHub's."""
    import keras_hub

    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(size, size, 3),
    )


@dataclass(frozen=True)
class Contestant:
    """One row of the table.

    Args:
        label: what the table calls it.
        architecture: ``"v1"``: a stage's first block strides in its 1x1 convolution, as in the paper; ``"v1.5"``: in
            its 3x3, which computes more. ``"v1, biased"``: with a bias in each convolution.
        build: (keras, image size) -> backbone.
        legacy: runs on tf_keras.
        ours: built by this library.
    """

    label: str
    architecture: str
    build: Callable[[Any, int], Any]
    legacy: bool = False
    ours: bool = False


CONTESTANTS = {
    "keras_resnet50": Contestant("this library, keras_resnet50", "v1, biased", ours("keras_resnet50"), ours=True),
    "applications": Contestant("keras.applications", "v1, biased", applications),
    "resnet50_v1": Contestant("this library, resnet50_v1", "v1", ours("resnet50_v1"), ours=True),
    "kerascv": Contestant("KerasCV", "v1", kerascv),
    "resnet50": Contestant("this library, resnet50", "v1.5", ours("resnet50"), ours=True),
    "kerashub": Contestant("KerasHub", "v1.5", kerashub),
    "applications_legacy": Contestant("tf_keras.applications", "v1, biased", applications, legacy=True),
    "floor": Contestant("resnet50_v1 without any batch norm: a bound", "v1, no norm", without_batch_norm),
}


def multiply_adds(model: Any) -> int:
    """Of one image through all convolutions and dense layers of a flat model."""
    total = 0
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            pixels = 1
            for length in tuple(layer.output.shape)[1:-1]:
                pixels *= length
            weights = 1
            for length in tuple(kernel.shape):
                weights *= length
            total += pixels * weights
    return total


def measure(name: str, size: int, batch: int, steps: int, xla: bool) -> dict[str, float]:
    """Builds one network with a classifier's head, trains it on one batch, and says what a step cost."""
    contestant = CONTESTANTS[name]
    if contestant.legacy:
        import tf_keras as keras
    else:
        import keras
    backbone = contestant.build(keras, size)
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    x = keras.layers.Dense(CLASSES, activation="softmax")(x)
    model = keras.Model(backbone.inputs, x)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=xla)
    images, classes = random_batch(size, batch)
    model.train_on_batch(images, classes)  # traced, and compiled, here
    return {
        **cheapest_step(model, images, classes, steps),
        "gmacs": multiply_adds(model) / 1e9,
    }


COLUMNS = (
    "network", "on", "architecture", "GMACs", "CPU s a step", "wall s", "GiB", "rounds",
)  # fmt: skip


def rows_of(best: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    """The table's rows, as text."""
    rows: list[tuple[str, ...]] = []
    for name, figures in best.items():
        contestant = CONTESTANTS[name]
        rows.append(
            (
                contestant.label,
                "tf_keras" if contestant.legacy else "Keras 3",
                contestant.architecture,
                f"{figures['gmacs']:.2f}",
                f"{figures['cpu_s']:.2f}",
                f"{figures['wall_s']:.2f}",
                f"{figures['memory_gib']:.1f}",
                f"{figures['rounds']:.0f}",
            )
        )
    return rows


def verdict(best: dict[str, dict[str, float]]) -> str:
    """Ours against the Keras 3 peer of the same architecture, a line each."""
    lines = []
    for name, figures in best.items():
        for other, peer in best.items():
            mine, theirs = CONTESTANTS[name], CONTESTANTS[other]
            if mine.ours and not theirs.ours and not theirs.legacy and mine.architecture == theirs.architecture:
                ratio = figures["cpu_s"] / peer["cpu_s"]
                lines.append(f"- {mine.architecture}: {ratio:.2f} of the CPU time of {theirs.label}")
    if "floor" in best and "kerascv" in best:
        ratio = best["floor"]["cpu_s"] / best["kerascv"]["cpu_s"]
        lines.append(f"- without any batch norm, which bounds what a faster one can give: {ratio:.2f} of KerasCV")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps a measurement")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--onednn", action="store_true", help="with TF_ENABLE_ONEDNN_OPTS=1 (off by default where "
                        "the CPU has no AVX-512)")  # fmt: skip
    parser.add_argument("--xla", action="store_true", help="with jit_compile=True")
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "train_step.json")
    parser.add_argument("--measure", choices=CONTESTANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measures what is missing, then reports."""
    arguments = parse()
    if arguments.measure:
        figures = measure(arguments.measure, arguments.size, arguments.batch, arguments.steps, arguments.xla)
        print(json.dumps(figures))
        return
    switches = ("-onednn" if arguments.onednn else "") + ("-xla" if arguments.xla else "")
    path = arguments.results
    options = [f"--{option}={getattr(arguments, option)}" for option in ("size", "batch", "steps")]

    def measured(name: str) -> Figures:
        command = [__file__, "--measure", name, *options, *["--xla"] * arguments.xla]
        return in_own_process(command, legacy=CONTESTANTS[name].legacy, onednn=arguments.onednn)

    prefix = f"{arguments.size}px-batch{arguments.batch}{switches}"
    best = in_turns(path, prefix, arguments.only, arguments.rounds, measured)
    title = f"Training step of ResNet-50, {arguments.size} px, batch {arguments.batch}{switches.replace('-', ', ')}"
    report(title, COLUMNS, rows_of(best), 3, verdict(best), path.with_suffix(".md"))


if __name__ == "__main__":
    main()
