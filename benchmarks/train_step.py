"""What a training step of ResNet-50 costs: this library's and its peers', measured in turns.

Every measurement is a fresh process that builds one network, trains it on one batch a few times and says what the
cheapest step took: CPU seconds (of all threads; hardly disturbed by what else the machine does), wall-clock seconds,
and the largest memory of the process. Rounds go through all networks, every second one backwards, so that a machine
that slows down slows all alike. Each result is written to runs/train_step.json as it comes; what stands there is not
measured again, so a stopped run goes on where it was. The table goes to runs/train_step.md as well.

    python benchmarks/train_step.py                     # about 20 minutes on two cores
    python benchmarks/train_step.py --onednn --only resnet50_v1 kerascv
    python benchmarks/train_step.py --rounds 1 --steps 1 --size 64 --batch 2 --results /tmp/try.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 1000
console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)


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
    from resnet_backbones.layers.keras_parts import KerasParts

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
    import numpy as np

    backbone = contestant.build(keras, size)
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    x = keras.layers.Dense(CLASSES, activation="softmax")(x)
    model = keras.Model(backbone.inputs, x)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=xla)
    random = np.random.default_rng(0)
    images = random.normal(size=(batch, size, size, 3)).astype("float32")
    classes = random.integers(0, CLASSES, batch)
    model.train_on_batch(images, classes)  # traced, and compiled, here
    cpu, wall = [], []
    for _ in range(steps):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        model.train_on_batch(images, classes)
        cpu.append(time.process_time() - cpu_start)
        wall.append(time.perf_counter() - wall_start)
    return {
        "cpu_s": min(cpu),
        "wall_s": min(wall),
        "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "gmacs": multiply_adds(model) / 1e9,
    }


def in_own_process(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """One measurement, in a process of its own.

    Raises:
        RuntimeError: the process failed; the message ends in what it said.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    environment["TF_USE_LEGACY_KERAS"] = "1" if CONTESTANTS[name].legacy else "0"
    if arguments.onednn:
        environment["TF_ENABLE_ONEDNN_OPTS"] = "1"
    command = [sys.executable, __file__, "--measure", name]
    for option in ("size", "batch", "steps"):
        command += [f"--{option}", str(getattr(arguments, option))]
    done = subprocess.run(
        command + ["--xla"] * arguments.xla, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"measuring {name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def best_of(results: dict[str, Any], prefix: str) -> dict[str, dict[str, float]]:
    """Contestant -> the smallest figure of each kind over all its rounds."""
    best: dict[str, dict[str, float]] = {}
    for name in CONTESTANTS:
        rounds = [result for key, result in results.items() if key.startswith(f"{prefix}/{name}/")]
        if rounds:
            best[name] = {figure: min(result[figure] for result in rounds) for figure in rounds[0]}
            best[name]["rounds"] = len(rounds)
    return best


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


def report(best: dict[str, dict[str, float]], title: str, markdown: Path) -> None:
    """Prints the table and writes it as Markdown."""
    rows = rows_of(best)
    table = Table(title=title)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if number < 3 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(verdict(best))
    rule = ("---",) * 3 + ("---:",) * (len(COLUMNS) - 3)
    lines = [title, "", *("| " + " | ".join(cells) + " |" for cells in (COLUMNS, rule, *rows)), "", verdict(best), ""]
    markdown.write_text("\n".join(lines), encoding="utf-8")


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
    prefix = f"{arguments.size}px-batch{arguments.batch}{switches}"
    path = arguments.results
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for number in range(arguments.rounds):
        for name in arguments.only[:: -1 if number % 2 else 1]:
            key = f"{prefix}/{name}/round{number}"
            if key in results:
                continue
            results[key] = in_own_process(name, arguments)
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(results, indent=1), encoding="utf-8")
            temporary.replace(path)
            console.print(f"{key}: {results[key]['cpu_s']:.2f} CPU s, {results[key]['wall_s']:.2f} s")
    title = f"Training step of ResNet-50, {arguments.size} px, batch {arguments.batch}{switches.replace('-', ', ')}"
    report(best_of(results, prefix), title, path.with_suffix(".md"))


if __name__ == "__main__":
    main()
