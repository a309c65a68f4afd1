"""``resnet-backbones benchmark``: files on every runtime that is installed, in turns. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from resnet_backbones._util.text import escape
from resnet_backbones.cli.common import AsJson, at_work, console, errors_in_one_line, must_be_there, print_json

EXAMPLE = "Example: [bold]resnet-backbones benchmark classifier.tflite classifier.onnx --threads 2[/bold]"
_Programs = dict[tuple[str, str], Callable[[], object]]
_Skipped = dict[tuple[str, str], str]


def benchmark(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".tflite and .onnx files.")],
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each runtime; if not given, as many as there are processors.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each file on each runtime.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Time files on LiteRT, ONNX Runtime and OpenVINO, in turns. Exits with 1 when a file runs on none of them."""
    programs: _Programs = {}
    skipped: _Skipped = {}
    with errors_in_one_line(), at_work(f"timing {len(files)} files"):
        must_be_there(*files)
        from resnet_backbones.export.report.latency import processors, time_in_turns

        threads = threads or processors()
        for path in dict.fromkeys(files):
            _open(path, threads, programs, skipped)
        keys = {f"{path} {backend}": (path, backend) for path, backend in programs}
        timed = time_in_turns(
            {name: programs[key] for name, key in keys.items()}, threads, seconds=0, least=runs, settle=1
        )
    rows = [
        {
            **asdict(entry),
            "name": Path(keys[entry.name][0]).name,
            "file": keys[entry.name][0],
            "runtime": keys[entry.name][1],
        }
        for entry in timed
    ]
    if as_json:
        left = [{"file": path, "runtime": backend, "why": why} for (path, backend), why in skipped.items()]
        print_json({"latency_ms": rows, "not_run": left})
        return
    _show(rows, skipped)


def _open(path: Path, threads: int, programs: _Programs, skipped: _Skipped) -> None:
    """Adds a program for each runtime that can run a file; raises if none can."""
    from resnet_backbones.runtime import load
    from resnet_backbones.runtime.engines.choose import BACKENDS, choose_backend

    choose_backend(path, None)  # says what is allowed where nothing runs such files
    errors: list[Exception] = []
    for backend, (suffixes, _) in BACKENDS.items():
        if path.suffix not in suffixes:
            continue
        try:
            programs[str(path), backend] = load(path, backend, threads).timer()
        except (ImportError, ValueError) as error:
            errors.append(error)
            skipped[str(path), backend] = " ".join(str(error).split())
    if not any(opened == str(path) for opened, _ in programs):
        raise errors[0]


def _show(rows: list[dict[str, Any]], skipped: _Skipped) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("file", overflow="fold")
    table.add_column("runtime", no_wrap=True)
    for column in ("MB", "threads", "median ms", "minimum ms", "spread ms", "runs"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        size = f"{Path(row['file']).stat().st_size / 1e6:.2f}"
        times = [f"{row[key]:.3f}" for key in ("median", "minimum", "spread")]
        table.add_row(escape(row["file"]), row["runtime"], size, str(row["threads"]), *times, str(row["runs"]))
    out = console()
    out.print(table)
    out.print("In turns, the engine alone. Spread: between the quarter of fast and the quarter of slow runs.")
    for (path, backend), why in skipped.items():
        out.print(f"[yellow]Not run:[/yellow] {escape(path)} on {backend}: {escape(why)}", soft_wrap=True)
