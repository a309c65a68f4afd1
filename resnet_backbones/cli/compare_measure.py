"""Measures backbones for ``resnet-backbones compare``, and picks one that fits a budget."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones.export.report.latency import Latency, time_in_turns


@dataclass(frozen=True)
class Measured:
    """One backbone with random weights: what it costs.

    Attributes:
        name: of the backbone.
        parameters: trainable ones, the head's included where it has one.
        gmacs: 10^9 multiply-accumulates for one image, counted from the file.
        float_mb, int8_mb: size of the LiteRT file.
        int8_share: of the multiply-accumulates, 0 to 1.
        float_ms, int8_ms: of one image.
    """

    name: str
    parameters: int
    gmacs: float
    float_mb: float
    int8_mb: float
    int8_share: float
    float_ms: Latency
    int8_ms: Latency

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """Which backbone to take.

    Attributes:
        fits: names of those within the budget.
        take: of these the one with most multiply-accumulates; ``None`` if none fits.
        nearest: the one least over the budget, or most below it.
        excess: what the nearest needs, as a multiple of the budget.
        next: the next larger one than ``take``, which does not fit; ``None`` if there is none.
    """

    fits: list[str]
    take: str | None
    nearest: str
    excess: float
    next: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure(
    names: Sequence[str], *, size: int, classes: int, threads: int, runs: int, step: Callable[[str], None]
) -> list[Measured]:
    """Builds backbones with random weights, exports each in float32 and int8, and times the files in turns.

    Args:
        names: of backbones.
        size: height and width of the images, in pixels.
        classes: of a classifier's head; 0 for the backbone alone.
        threads: of LiteRT.
        runs: timed ones of each file.
        step: called with what comes next, three times a backbone and once at the end.

    Raises:
        ValueError: a backbone that cannot be built at this size or exported.
        ImportError: LiteRT or TFMOT is not installed.
    """
    from resnet_backbones import runtime

    with tempfile.TemporaryDirectory() as folder:
        facts, programs = {}, {}
        for number, name in enumerate(names):
            place = Path(folder) / str(number)
            place.mkdir()
            facts[name] = _exported(name, place, size, classes, step)
            for kind in ("float32", "int8"):
                programs[f"{name} {kind}"] = runtime.load(place / f"{kind}.tflite", num_threads=threads).timer()
        step(f"timing {len(programs)} files in turns")
        timed = {one.name: one for one in time_in_turns(programs, threads, seconds=0, least=runs)}
    return [
        Measured(name, **facts[name], float_ms=timed[f"{name} float32"], int8_ms=timed[f"{name} int8"])
        for name in names
    ]


def _exported(name: str, folder: Path, size: int, classes: int, step: Callable[[str], None]) -> dict[str, Any]:
    """Writes ``float32.tflite`` and ``int8.tflite``, and says what is in them."""
    from resnet_backbones.export import export_model
    from resnet_backbones.factory import create_backbone
    from resnet_backbones.quantization import quantize_post_training

    step(f"{name}: building")
    model = create_backbone(name, input_shape=(size, size, 3))
    if classes:
        model = _with_head(model, classes)
    parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    step(f"{name}: float32")
    plain = export_model(model, folder / "float32.tflite", precision="float32")
    step(f"{name}: int8")
    quantize_post_training(model, "edge_int8", calibration_data=_noise(size))
    int8 = export_model(model, folder / "int8.tflite", precision="int8")
    return {
        "parameters": parameters,
        "gmacs": plain.census.macs / 1e9,
        "float_mb": plain.size_bytes / 1e6,
        "int8_mb": int8.size_bytes / 1e6,
        "int8_share": int8.int8_mac_share,
    }


def _with_head(backbone: Any, classes: int) -> Any:
    from resnet_backbones.keras_compat import keras

    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    scores = keras.layers.Dense(classes, activation="softmax")(pooled)
    return keras.Model(backbone.input, scores, name=f"{backbone.name}_classifier")


def _noise(size: int) -> np.ndarray:
    """Images to calibrate on, -1 to 1: with random weights, ranges change neither size nor speed."""
    return np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)


def choose(measured: Sequence[Measured], ms: float | None, mb: float | None) -> Choice:
    """The most capable backbone within a budget: that with most multiply-accumulates, then most parameters.

    Args:
        measured: at least one.
        ms: most milliseconds an image in int8, of the median; ``None`` for any.
        mb: most megabytes of the int8 file; ``None`` for any.
    """

    def need(one: Measured) -> float:
        return max(one.int8_ms.median / ms if ms else 0, one.int8_mb / mb if mb else 0)

    def capability(one: Measured) -> tuple[float, int]:
        return one.gmacs, one.parameters

    fitting = [one for one in measured if need(one) <= 1]
    nearest = min(measured, key=need)
    if not fitting:
        return Choice([], None, nearest.name, need(nearest))
    best = max(fitting, key=capability)
    larger = [one for one in measured if capability(one) > capability(best)]
    following = min(larger, key=capability).name if larger else None
    return Choice([one.name for one in fitting], best.name, nearest.name, need(nearest), following)
