"""``resnet-backbones compare``: which depth should I take? Measured on this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from resnet_backbones._util.files import written_whole
from resnet_backbones._util.text import escape
from resnet_backbones.backbones import catalogue_tables as catalogue
from resnet_backbones.backbones.catalogue_tables import gmacs
from resnet_backbones.backbones.info import list_backbones, natural
from resnet_backbones.backbones.registry import find_backbone
from resnet_backbones.cli.common import (
    AsJson,
    can_be_written,
    console,
    errors_in_one_line,
    print_json,
    quiet_tensorflow,
)
from resnet_backbones.errors import needed

if TYPE_CHECKING:
    from resnet_backbones.cli.compare_measure import Choice, Measured

EXAMPLE = (
    "Example: [bold]resnet-backbones compare resnet18 resnet34 resnet50 --budget-ms 10 --budget-mb 25 --png "
    "compared.png[/bold]"
)
_STEPS = 3  # a backbone


def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Backbones, as `list` prints them; * and ? match several.")
    ],
    size: Annotated[int, typer.Option(min=32, help="Height and width of the images, in pixels.")] = 224,
    classes: Annotated[int, typer.Option(min=0, help="Of a classifier's head; 0: the backbone alone.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of LiteRT; if not given, as many as there are processors.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each file.")] = 30,
    budget_ms: Annotated[float | None, typer.Option(min=1e-6, help="Most milliseconds an image, in int8.")] = None,
    budget_mb: Annotated[float | None, typer.Option(min=1e-6, help="Most megabytes of the int8 file.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw size against latency.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure backbones with random weights, float and int8, on LiteRT. With a budget, exits with 1 if none fits."""
    if png is not None and png.suffix != ".png":
        raise typer.BadParameter(f"the picture ends in .png, not {png.name!r}", param_hint="--png")
    with errors_in_one_line():
        chosen = _names(names)
        if png is not None:
            can_be_written(png, picture=True)
        from resnet_backbones.cli.compare_measure import choose
        from resnet_backbones.export.report.latency import processors

        threads = threads or processors()
        measured = _measure(chosen, size, classes, threads, runs)
        if png is not None:
            title = f"{size}x{size}, LiteRT, {threads} thread{'s' if threads > 1 else ''}, batch 1"
            plot(measured, png, title, budget_ms, budget_mb)
    asked = budget_ms is not None or budget_mb is not None
    choice = choose(measured, budget_ms, budget_mb) if asked else None
    if as_json:
        budget = choice and {"ms": budget_ms, "mb": budget_mb, **choice.to_dict()}
        rows = [one.to_dict() for one in measured]
        settings = {"size": size, "classes": classes, "threads": threads}
        print_json({**settings, "backbones": rows, "budget": budget, "png": png and str(png)})
    else:
        _show(measured, choice, png)
        if choice is not None:
            console().print(_answer(measured, choice, budget_ms, budget_mb), soft_wrap=True)
    if choice is not None and choice.take is None:
        raise typer.Exit(1)


def _names(asked: list[str]) -> list[str]:
    """Names and patterns as main names, each once, before anything is built."""
    found: list[str] = []
    for one in asked:
        if set(one) & set("*?["):
            matching = list_backbones(one)
            if not matching:
                raise ValueError(f"no backbone matches {one!r}. `resnet-backbones list` gives every name.")
            found += sorted(matching, key=natural)
        else:
            found.append(find_backbone(one).name)
    return list(dict.fromkeys(found))


def _measure(names: list[str], size: int, classes: int, threads: int, runs: int) -> list[Measured]:
    from resnet_backbones.cli.compare_measure import measure

    out = console(error=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("starting", total=_STEPS * len(names) + 1, completed=-1)

        def step(what: str) -> None:
            progress.update(task, description=what, advance=1)

        with quiet_tensorflow():
            return measure(names, size=size, classes=classes, threads=threads, runs=runs, step=step)


def _show(measured: list[Measured], choice: Choice | None, png: Path | None) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    for column in ("params M", "GMACs", "float MB", "int8 MB", "in int8", "float ms", "int8 ms", "faster"):
        table.add_column(column, justify="right", no_wrap=True)
    if choice is not None:
        table.add_column("fits")
    for one in measured:
        table.add_row(*_cells(one), *(() if choice is None else ("yes" if one.name in choice.fits else "no",)))
    from resnet_backbones.export.report.kernels import FOUR_BITS

    out = console()
    out.print(table)
    timing = measured[0].int8_ms
    out.print(
        f"ms: median of {timing.runs} runs in turns, with the least in brackets; LiteRT, {timing.threads} thread"
        f"{'s' if timing.threads > 1 else ''}, one image. in int8: share of the multiply-accumulates.\nRandom weights: "
        f"this says what a backbone costs, not how well it sees.\n{FOUR_BITS}"
    )
    if png is not None:
        out.print(f"Wrote {escape(str(png))}", soft_wrap=True)


def _cells(one: Measured) -> tuple[str, ...]:
    return (
        escape(one.name),
        catalogue.millions(one.parameters),
        catalogue.gmacs(one.gmacs),
        f"{one.float_mb:.2f}",
        f"{one.int8_mb:.2f}",
        f"{100 * one.int8_share:.1f} %",
        f"{one.float_ms.median:.2f} ({one.float_ms.minimum:.2f})",
        f"{one.int8_ms.median:.2f} ({one.int8_ms.minimum:.2f})",
        f"{one.float_ms.median / one.int8_ms.median:.1f}x",
    )


def _answer(measured: list[Measured], choice: Choice, ms: float | None, mb: float | None) -> str:
    """Which to take, in words."""
    budget = " and ".join(f"{value:g} {unit}" for value, unit in ((ms, "ms"), (mb, "MB")) if value is not None)
    by_name = {one.name: one for one in measured}

    def cost(name: str) -> str:
        return f"{by_name[name].int8_ms.median:.2f} ms, {by_name[name].int8_mb:.2f} MB"

    if choice.take is None:
        return (
            f"[yellow]None fits {budget}.[/yellow] Nearest is [bold]{choice.nearest}[/bold]: {cost(choice.nearest)}, "
            f"{choice.excess:.2f} times the budget."
        )
    text = f"[green]Take [bold]{choice.take}[/bold][/green]: {cost(choice.take)} in int8, within {budget}."
    return text + (f" The next larger, {choice.next}, needs {cost(choice.next)}." if choice.next else "")


_INT8, _FLOAT, _BUDGET = "#4f81bd", "#c0504d", "#9bbb59"


def plot(measured: Sequence[Measured], path: Path, title: str, ms: float | None, mb: float | None) -> None:
    """Draws a point a file; a line joins the two of a backbone, and the budget is shaded.

    Args:
        measured: at least one.
        path: where the PNG is written, atomically.
        title: of the picture.
        ms: the budget's milliseconds; ``None`` for any.
        mb: the budget's megabytes; ``None`` for any.

    Raises:
        ImportError: matplotlib is not installed.
    """
    needed("matplotlib", "The picture", "matplotlib", "plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    for one in measured:
        times, sizes = (one.float_ms.median, one.int8_ms.median), (one.float_mb, one.int8_mb)
        ax.plot(times, sizes, color="#bbbbbb", linewidth=0.8, zorder=1)
        text = f"{one.name}  {gmacs(one.gmacs)} GMACs"
        ax.annotate(text, (times[1], sizes[1]), xytext=(6, -10), textcoords="offset points", fontsize=8)
    float_points = ([one.float_ms.median for one in measured], [one.float_mb for one in measured])
    int8_points = ([one.int8_ms.median for one in measured], [one.int8_mb for one in measured])
    ax.scatter(*float_points, s=45, facecolors="white", edgecolors=_FLOAT, zorder=2, label="float32")
    ax.scatter(*int8_points, s=45, color=_INT8, zorder=3, label="int8")
    for axis, values, budget in zip("xy", zip(float_points, int8_points, strict=True), (ms, mb), strict=True):
        _logarithmic(ax, axis, *_limits([*values[0], *values[1]], budget))
    if ms or mb:
        right, top = ms or ax.get_xlim()[1], mb or ax.get_ylim()[1]
        left, bottom = ax.get_xlim()[0], ax.get_ylim()[0]
        ax.fill_between([left, right], bottom, top, color=_BUDGET, alpha=0.2, linewidth=0, label="budget")
    ax.set(xlabel="median latency, ms an image", ylabel="file, MB", title=title)
    ax.grid(which="both", linewidth=0.3)
    ax.set_axisbelow(True)
    ax.legend(fontsize=9, loc="upper left")
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _limits(values: list[float], budget: float | None) -> tuple[float, float]:
    """Room round all values and the budget, more at the right for labels."""
    known = [*values, budget] if budget else values
    return min(known) / 1.5, max(known) * 2


def _logarithmic(ax: Any, axis: str, low: float, high: float) -> None:
    """A logarithmic axis whose ticks are plain numbers, 1, 2, 5, 10 and so on."""
    from matplotlib.ticker import NullFormatter

    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5) if low <= digit * 10.0**decade <= high]
    getattr(ax, f"set_{axis}scale")("log")
    getattr(ax, f"set_{axis}lim")(low, high)
    getattr(ax, f"set_{axis}ticks")(ticks, [f"{tick:g}" for tick in ticks])
    getattr(ax, f"{axis}axis").set_minor_formatter(NullFormatter())
