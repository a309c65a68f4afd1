"""The chart of a quantization report."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resnet_backbones._util.files import written_whole
from resnet_backbones.errors import needed

if TYPE_CHECKING:
    from resnet_backbones.quantization.analysis import QuantizationReport

NO_ERROR = 200.0  # dB: what a layer that adds no error is given, in place of infinity
_LONGEST = 48  # characters of a label; the end of a path says most


def plot_report(report: QuantizationReport, path: str | os.PathLike[str], most: int = 40) -> None:
    """Draws the error of layer calls as a bar chart, worst first, written whole or not at all.

    Args:
        report: what ``analyse`` returned.
        path: where the PNG shall be.
        most: how many calls to show.

    Raises:
        ImportError: matplotlib is not installed.
    """
    needed("matplotlib", "A chart", "matplotlib", "plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = report.layers[:most]
    figure = Figure(figsize=(11, 1.8 + 0.3 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    finite = [value for row in rows for value in (row.alone, row.sqnr) if value < NO_ERROR]
    end = 1.1 * max([*finite, report.output_sqnr, 1.0])  # bars of layers that add no error end there
    for offset, color, label, values in (
        (-0.2, "#c0504d", "alone, at the outputs", [row.alone for row in rows]),
        (0.2, "#4f81bd", "all, at the layer", [row.sqnr for row in rows]),
    ):
        axes.barh(
            [place + offset for place in range(len(rows))], [min(v, end) for v in values], 0.4, color=color, label=label
        )
        for place, value in enumerate(values):
            if value >= NO_ERROR:
                axes.text(end, place + offset, "exact ", fontsize=6, color="white", ha="right", va="center")
    axes.axvline(report.output_sqnr, color="black", linewidth=1, linestyle="--", label="all, at the outputs")
    axes.set_yticks(range(len(rows)), [_label(row.layer, row.call) for row in rows], fontsize=8, family="monospace")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("signal to quantization noise, dB (short bars: much error)")
    shown = f", the {len(rows)} worst of {len(report.layers)}" if len(rows) < len(report.layers) else ""
    axes.set_title(f"{report.model} on {report.images} images{shown}", fontsize=10, loc="left")
    axes.grid(axis="x", linewidth=0.4)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _label(layer: str, call: int) -> str:
    name = layer if len(layer) <= _LONGEST else "…" + layer[1 - _LONGEST :]
    return f"{name} #{call}" if call else name
