"""What the registry costs: importing and listing, and building resnet50 against keras.applications', in turns.

Every figure is CPU seconds (of all threads), the least of several: other work on the machine hardly disturbs it.
Importing is measured in fresh processes and given over that of a bare interpreter. Building is measured in one process,
both libraries in turns, every second round in the other order.

    python benchmarks/registry.py                       # a minute; the table goes to runs/registry.md as well
    TF_USE_LEGACY_KERAS=1 python benchmarks/registry.py
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SHAPE = (224, 224, 3)

STATEMENTS = {
    "import resnet_backbones": "import resnet_backbones",
    "and list_backbones()": "import resnet_backbones as rb; rb.list_backbones()",
    "and every backbone_info": "import resnet_backbones as rb; list(map(rb.backbone_info, rb.list_backbones()))",
}


def process_seconds(statement: str) -> float:
    """CPU seconds of a fresh interpreter that runs a statement; it must not import TensorFlow."""
    check = "import sys; assert not {'tensorflow', 'keras', 'tf_keras'} & set(sys.modules)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", f"{statement}; {check}"], check=True, env=environment, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def in_turns(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The least that each measure gave, all of them once a round, every second round backwards."""
    least: dict[str, float] = dict.fromkeys(measures, float("inf"))
    for number in range(rounds):
        for name in list(measures)[:: -1 if number % 2 else 1]:
            least[name] = min(least[name], measures[name]())
    return least


def building(build: Callable[[], Any]) -> Callable[[], float]:
    """A measure of the CPU seconds that ``build`` takes."""

    def measure() -> float:
        start = time.process_time()
        build()
        return time.process_time() - start

    return measure


def builders() -> dict[str, Callable[[], Any]]:
    """What is built; the first builds of a process, which are slower, are done here."""
    sys.path.insert(0, str(ROOT))
    import resnet_backbones as rb
    from resnet_backbones.keras_compat import keras

    resnet50 = keras.applications.ResNet50
    made: dict[str, Callable[[], Any]] = {
        "keras.applications.ResNet50": lambda: resnet50(weights=None, include_top=False, input_shape=SHAPE),
        "this library's keras_resnet50, the same network": lambda: rb.create_backbone(
            "keras_resnet50", input_shape=SHAPE
        ),
        "this library's resnet50": lambda: rb.create_backbone("resnet50", input_shape=SHAPE),
    }
    for build in made.values():
        build()
    return made


def main() -> None:
    """Measures, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--markdown", type=Path, default=ROOT / "runs" / "registry.md")
    arguments = parser.parse_args()

    statements = {"": "pass", **STATEMENTS}
    imports = in_turns(
        {name: lambda text=text: process_seconds(text) for name, text in statements.items()}, arguments.rounds
    )
    bare = imports.pop("")
    builds = in_turns({name: building(build) for name, build in builders().items()}, arguments.rounds)
    rows = [(name, f"{seconds - bare:.3f}") for name, seconds in imports.items()]
    rows += [(f"build {name}", f"{seconds:.3f}") for name, seconds in builds.items()]

    from resnet_backbones.keras_compat import keras_name

    title = f"Cost of the registry, CPU seconds, least of {arguments.rounds}, {keras_name()}"
    table = Table("what", title=title)
    table.add_column("CPU s", justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(table)
    lines = [
        title,
        "",
        "| what | CPU s |",
        "| --- | ---: |",
        *(f"| {name} | {seconds} |" for name, seconds in rows),
        "",
    ]
    arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
    arguments.markdown.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
