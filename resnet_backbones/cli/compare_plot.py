"""The picture of ``resnet-backbones compare``: size against latency, float and int8."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnet_backbones._util.files import written_whole
from resnet_backbones.backbones.catalogue_tables import gmacs
from resnet_backbones.cli.compare_measure import Measured
from resnet_backbones.errors import needed

_INT8, _FLOAT, _BUDGET = "#4f81bd", "#c0504d", "#9bbb59"


def plot(measured: Sequence[Measured], path: Path, title: str, ms: float | None, mb: float | None) -> None:
    """Draws a point a file; a line joins the two of a backbone, and the budget is shaded.

    Args:
        measured: at least one.
        path: where the PNG shall be; written whole or not at all.
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
