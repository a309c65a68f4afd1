"""Measuring contestants in turns: each in a process of its own, each result written as it comes, the best of each kept.

Rounds go through all contestants, every second one backwards, so that a machine that slows down slows all alike. What
stands in the results file is not measured again: a stopped run goes on where it was.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
Figures = dict[str, float]
CLASSES = 1000


def random_batch(size: int, batch: int) -> tuple[Any, Any]:
    """Random images, float32 (batch, size, size, 3), and one of 1,000 classes for each, int64 (batch,)."""
    import numpy as np

    random = np.random.default_rng(0)
    return random.normal(size=(batch, size, size, 3)).astype("float32"), random.integers(0, CLASSES, batch)


def cheapest_step(model: Any, images: Any, classes: Any, steps: int) -> Figures:
    """Trains a compiled model on one batch, again and again.

    Args:
        model: trained on the batch once already, so that nothing is traced any more.
        images: the batch.
        classes: its classes.
        steps: how often.

    Returns:
        CPU seconds of all threads and wall-clock seconds of the cheapest step, and the process' largest memory in GiB.
    """
    cpu, wall = [], []
    for _ in range(steps):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        model.train_on_batch(images, classes)
        cpu.append(time.process_time() - cpu_start)
        wall.append(time.perf_counter() - wall_start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"cpu_s": min(cpu), "wall_s": min(wall), "memory_gib": memory}


def in_own_process(command: Sequence[str], *, legacy: bool = False, onednn: bool = False) -> Figures:
    """Runs a script that prints its figures as JSON in its last line.

    Args:
        command: the script and its arguments.
        legacy: on tf_keras.
        onednn: with TensorFlow's oneDNN kernels, which it leaves off on CPUs without AVX-512.

    Raises:
        RuntimeError: the process failed; the message ends in what it said.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    environment["TF_USE_LEGACY_KERAS"] = "1" if legacy else "0"
    if onednn:
        environment["TF_ENABLE_ONEDNN_OPTS"] = "1"
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turns(
    path: Path, prefix: str, names: Sequence[str], rounds: int, measure: Callable[[str], Figures]
) -> dict[str, Figures]:
    """Measures what is missing.

    Args:
        path: the results file, JSON: ``"prefix/name/round0"`` -> figures.
        prefix: tells these measurements from others in the file.
        names: the contestants.
        rounds: how often each is measured.
        measure: name -> figures.

    Returns:
        Name -> the smallest figure of each kind over its rounds, and ``"rounds"``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, Figures] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for number in range(rounds):
        for name in names[:: -1 if number % 2 else 1]:
            key = f"{prefix}/{name}/round{number}"
            if key in results:
                continue
            results[key] = measure(name)
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(results, indent=1), encoding="utf-8")
            temporary.replace(path)
            console.print(f"{key}: " + ", ".join(f"{figure} {value:.2f}" for figure, value in results[key].items()))
    best: dict[str, Figures] = {}
    for name in names:
        taken = [result for key, result in results.items() if key.startswith(f"{prefix}/{name}/")]
        if taken:
            best[name] = {figure: min(result[figure] for result in taken) for figure in taken[0]}
            best[name]["rounds"] = len(taken)
    return best


def report(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int, notes: str, path: Path
) -> None:
    """Prints a table with notes below it, and writes both as Markdown.

    Args:
        title: above it.
        columns: their heads.
        rows: cells as text.
        text_columns: how many of the first columns are text; the rest are figures.
        notes: a few lines of Markdown.
        path: the file.
    """
    rows = list(rows)
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < text_columns else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(notes)
    rule = ("---",) * text_columns + ("---:",) * (len(columns) - text_columns)
    lines = [title, "", *("| " + " | ".join(cells) + " |" for cells in (columns, rule, *rows)), "", notes, ""]
    path.write_text("\n".join(lines), encoding="utf-8")
