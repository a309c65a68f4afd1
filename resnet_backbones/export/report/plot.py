"""The picture of an export report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from resnet_backbones._util.files import beside, written_whole
from resnet_backbones._util.noise import NO_ERROR
from resnet_backbones.errors import needed
from resnet_backbones.export.report.facts import ExportFacts
from resnet_backbones.export.report.findings import passes
from resnet_backbones.export.request import QUANTIZED

_MOST_LAYERS = 80  # those where most error enters
_FARTHEST = 90.0  # dB: more is no error that matters, and would make the other bars short
_LONGEST = 46  # characters of a label; the end of a path says most
_COLORS = {"int8": "#4f81bd", "int16": "#8064a2", "int32": "#9a9a9a", "uint8": "#92cddc"}
_OTHER = "#c0504d"
_MARK = "resnet-backbones"
PICTURE_TEXT = "The report as bars"  # what the Markdown of a report calls its picture


def picture_of(path: Path) -> Path:
    """Where the picture of the report ``path``, an ``.md``, goes.

    Raises:
        FileExistsError: a file is there that is not the picture of a report.
    """
    picture = beside(path.with_suffix(""), ".png")
    if picture.is_file():
        with picture.open("rb") as file:
            marked = f"Software\0{_MARK}".encode() in file.read(4096)
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        shown = f"![{PICTURE_TEXT}]({picture.name})" in text  # version 0.1.0 left no mark
        if not (marked or shown):
            raise FileExistsError(
                f"{path} would show its picture as {picture.name}, and another file has that name, which no report "
                "wrote: rename it, or choose another path for the report."
            )
    return picture


def plot(report: ExportFacts, path: str | os.PathLike[str]) -> None:
    """Draws the operators by type and, where they were measured, the error of layers or outputs.

    Args:
        report: the report.
        path: where the PNG is written, atomically.

    Raises:
        ImportError: matplotlib is not installed.
    """
    needed("matplotlib", "The picture of a report", "matplotlib", "plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [panel for panel, wanted in _panels(report) if wanted]
    heights = [max(1.6, 0.9 + 0.22 * _bars(panel, report)) for panel in panels]
    figure = Figure(figsize=(10, sum(heights) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, ax in zip(panels, axes, strict=True):
        panel(report, ax)
        ax.invert_yaxis()
        ax.grid(axis="x", linewidth=0.4)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=8)
    verdict = "passed" if passes(report) else "failed"
    figure.suptitle(f"{report.path.name}, {report.precision}, {report.size_bytes / 1e6:.2f} MB: {verdict}", fontsize=11)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": _MARK})


def _panels(report: ExportFacts) -> list[tuple[Any, bool]]:
    return [
        (_operators, bool(report.operators)),
        (_outputs, bool(report.parity) or not report.operators),
        (_layers, bool(report.layers)),
    ]


def _bars(panel: Any, report: ExportFacts) -> int:
    counts = {_operators: len({kind for kind, _ in report.operators}), _outputs: len(report.parity)}
    return counts.get(panel, min(_MOST_LAYERS, len(report.layers)))


def _operators(report: ExportFacts, ax: Any) -> None:
    totals: dict[str, int] = {}
    for (kind, _), count in report.operators.items():
        totals[kind] = totals.get(kind, 0) + count
    kinds = sorted(totals, key=lambda kind: -totals[kind])
    left = dict.fromkeys(kinds, 0)
    for dtype in sorted({dtype for _, dtype in report.operators}):
        widths = [report.operators.get((kind, dtype), 0) for kind in kinds]
        ax.barh(kinds, widths, left=[left[kind] for kind in kinds], color=_COLORS.get(dtype, _OTHER), label=dtype)
        left = {kind: left[kind] + width for kind, width in zip(kinds, widths, strict=True)}
    for kind in kinds:
        ax.text(totals[kind], kind, f" {totals[kind]}", va="center", fontsize=8)
    ax.set_xlim(0, 1.08 * max(totals.values()))
    ax.set_xlabel("operators", fontsize=9)
    ax.legend(fontsize=8, loc="lower right")


def _outputs(report: ExportFacts, ax: Any) -> None:
    names = [entry.name for entry in report.parity]
    errors = [entry.mean_steps for entry in report.parity]
    ax.barh(names, errors, color=_COLORS["int8"])
    for entry in report.parity:
        share = "" if entry.within_two_steps is None else f", {100 * entry.within_two_steps:.1f} % within 2 steps"
        ax.text(entry.mean_steps, entry.name, f" cosine {entry.cosine:.5f}{share}", va="center", fontsize=8)
    ax.set_xlim(0, 2.2 * max([*errors, 1e-9]))
    in_steps = any(entry.within_two_steps is not None for entry in report.parity)
    ax.set_xlabel(f"mean difference from Keras, {'steps' if in_steps else 'float32'}", fontsize=9)


def _layers(report: ExportFacts, ax: Any) -> None:
    worst = {id(entry) for entry in sorted(report.layers, key=lambda entry: entry.added)[:_MOST_LAYERS]}
    rows = [entry for entry in report.layers if id(entry) in worst]
    places = range(len(rows))
    ax.barh(places, [entry.sqnr for entry in rows], 0.8, color=_COLORS["int8"], label="signal to noise ratio")
    enters = [entry.added for entry in rows]
    ax.scatter(enters, places, s=14, color=_OTHER, zorder=3, label="of the error that enters here")
    ax.set_yticks(places, [_label(entry.layer) for entry in rows], family="monospace")
    ax.set_ylim(-0.6, len(rows) - 0.4)
    farthest = max([entry.sqnr for entry in rows if entry.sqnr < NO_ERROR], default=NO_ERROR)
    ax.set_xlim(0, 1.1 * farthest if report.precision not in QUANTIZED else min(_FARTHEST, 1.1 * farthest))
    shown = (
        f", the {len(rows)} of {len(report.layers)} where most error enters" if len(rows) < len(report.layers) else ""
    )
    ax.set_xlabel(f"file against Keras at each layer, dB (short bars: much error){shown}", fontsize=9)
    ax.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)


def _label(layer: str) -> str:
    return layer if len(layer) <= _LONGEST else "…" + layer[1 - _LONGEST :]
