"""What quantization costs a training step of ResNet-50: each scheme, observing and frozen, and TFMOT's, in turns.

Every measurement is a fresh process: it builds one network with a classifier's head, quantizes it (and says how long
that took), trains it on one batch a few times, and gives the cheapest step in CPU seconds (all threads), its wall-clock
seconds and the largest memory of the process. Float steps are this library's own, with its fused batch norm, on
Keras 3, and on tf_keras beside TFMOT's ``quantize_model``. Results go to runs/quantization_cost.json as they come, the
table to runs/quantization_cost.md; a stopped run goes on where it was (rounds.py).

    python benchmarks/quantization_cost.py              # about 25 minutes on two cores
    python benchmarks/quantization_cost.py --onednn
    python benchmarks/quantization_cost.py --rounds 1 --steps 1 --size 64 --batch 2 --results /tmp/try.json
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rounds import CLASSES, ROOT, Figures, cheapest_step, in_own_process, in_turns, random_batch, report


@dataclass(frozen=True)
class Contestant:
    """One row of the table.

    Args:
        label: what the table calls it.
        baseline: the float contestant it is compared with; ``None`` for one itself.
        scheme: of ``quantize_aware``; ``"tfmot"``: TFMOT's ``quantize_model``; ``None``: float.
        frozen: with batch norm statistics and ranges frozen, as a schedule ends.
        legacy: runs on tf_keras.
        limits: the most its step and its memory may be, as shares of the baseline's.
    """

    label: str
    baseline: str | None = None
    scheme: str | None = None
    frozen: bool = False
    legacy: bool = False
    limits: tuple[float, float] | None = None


CONTESTANTS = {
    "float": Contestant("float"),
    "edge_observing": Contestant("edge_int8, observing", "float", "edge_int8", limits=(1.25, 1.4)),
    "edge_frozen": Contestant("edge_int8, frozen", "float", "edge_int8", frozen=True, limits=(1.20, 1.4)),
    "gpu_observing": Contestant("gpu_int8, observing", "float", "gpu_int8"),
    "gpu_frozen": Contestant("gpu_int8, frozen", "float", "gpu_int8", frozen=True, limits=(1.15, 1.4)),
    "legacy_float": Contestant("float", legacy=True),
    "legacy_edge_observing": Contestant("edge_int8, observing", "legacy_float", "edge_int8", legacy=True),
    "tfmot": Contestant("TFMOT quantize_model", "legacy_float", "tfmot", legacy=True),
}


def quantized(model: Any, contestant: Contestant) -> Any:
    """The model quantized as the contestant is."""
    if contestant.scheme == "tfmot":
        import tensorflow_model_optimization as tfmot

        return tfmot.quantization.keras.quantize_model(model)
    if contestant.scheme is not None:
        import resnet_backbones as rb

        rb.quantize_aware(model, contestant.scheme)
    return model


def freeze(model: Any, frozen: bool) -> None:
    """Sets the switches that a schedule would set."""
    from resnet_backbones.quantization.hooks import freezes_of, quantizers_of

    for switch in freezes_of(model):
        switch.frozen.assign(float(frozen))
    for quantizer in quantizers_of(model):
        if quantizer.fixed_range is None:
            quantizer.observing.assign(float(not frozen))


def measure(name: str, size: int, batch: int, steps: int) -> Figures:
    """Builds, quantizes and trains one network, and says what a step cost."""
    import resnet_backbones as rb
    from resnet_backbones.keras_compat import keras

    contestant = CONTESTANTS[name]
    if contestant.scheme is not None:
        _ = rb.quantize_aware  # brings TFMOT; what is imported is not what preparing costs
    backbone = rb.create_backbone("resnet50", input_shape=(size, size, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.inputs, keras.layers.Dense(CLASSES, activation="softmax")(x))
    cpu_start, wall_start = time.process_time(), time.perf_counter()
    model = quantized(model, contestant)
    preparing = time.process_time() - cpu_start, time.perf_counter() - wall_start
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False)
    images, classes = random_batch(size, batch)
    model.train_on_batch(images, classes)  # traced here, and ranges set
    freeze(model, contestant.frozen)
    return {
        **cheapest_step(model, images, classes, steps),
        "preparing_cpu_s": preparing[0],
        "preparing_wall_s": preparing[1],
    }


COLUMNS = (
    "step of ResNet-50", "on", "CPU s", "of float", "wall s", "GiB", "of float", "preparing, s", "rounds", "limits",
)  # fmt: skip


def rows_of(best: dict[str, Figures]) -> list[tuple[str, ...]]:
    """The table's rows, as text."""
    rows = []
    for name, figures in best.items():
        contestant = CONTESTANTS[name]
        baseline = best.get(contestant.baseline or "")
        step, memory = ((f"{figures[key] / baseline[key]:.2f}" if baseline else "") for key in ("cpu_s", "memory_gib"))
        limits = "" if contestant.limits is None else "{:.2f}, {:.1f}".format(*contestant.limits)
        preparing = "" if contestant.scheme is None else f"{figures['preparing_wall_s']:.2f}"
        rows.append(
            (
                contestant.label,
                "tf_keras" if contestant.legacy else "Keras 3",
                f"{figures['cpu_s']:.2f}",
                step,
                f"{figures['wall_s']:.2f}",
                f"{figures['memory_gib']:.2f}",
                memory,
                preparing,
                f"{figures['rounds']:.0f}",
                limits,
            )
        )
    return rows


def verdict(best: dict[str, Figures]) -> str:
    """Every limit that is not kept, a line each."""
    lines = []
    for name, figures in best.items():
        contestant = CONTESTANTS[name]
        baseline = best.get(contestant.baseline or "")
        if baseline and contestant.limits:
            for what, key, limit in zip(("step", "memory"), ("cpu_s", "memory_gib"), contestant.limits, strict=True):
                share = figures[key] / baseline[key]
                if share > limit:
                    lines.append(f"- {contestant.label}: {what} {share:.3f} of float, limit {limit}")
    return "\n".join(lines) or "- every limit measured is kept"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps a measurement")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--onednn", action="store_true", help="with TF_ENABLE_ONEDNN_OPTS=1")
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "quantization_cost.json")
    parser.add_argument("--measure", choices=CONTESTANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measures what is missing, then reports."""
    arguments = parse()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.size, arguments.batch, arguments.steps)))
        return
    options = [f"--{option}={getattr(arguments, option)}" for option in ("size", "batch", "steps")]

    def measured(name: str) -> Figures:
        command = [__file__, "--measure", name, *options]
        return in_own_process(command, legacy=CONTESTANTS[name].legacy, onednn=arguments.onednn)

    switch = ", oneDNN" if arguments.onednn else ""
    prefix = f"{arguments.size}px-batch{arguments.batch}{switch.replace(', ', '-')}"
    best = in_turns(arguments.results, prefix, arguments.only, arguments.rounds, measured)
    title = f"Cost of quantization-aware training, ResNet-50, {arguments.size} px, batch {arguments.batch}{switch}"
    report(title, COLUMNS, rows_of(best), 2, verdict(best), arguments.results.with_suffix(".md"))


if __name__ == "__main__":
    main()
