"""What an analysis found, as text and as a chart."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from resnet_backbones._util.files import written_whole
from resnet_backbones._util.noise import NO_ERROR
from resnet_backbones._util.text import as_text, table
from resnet_backbones.errors import needed

_LONGEST = 48  # characters of a label; the end of a path says most


@dataclass(frozen=True)
class LayerError:
    """The error of one call of one quantized layer.

    Attributes:
        layer: path of the layer.
        call: which call of it, from 0.
        sqnr: signal to quantization noise ratio of what the call returns, in dB: the quantized model against the
            float one on the same images, so with the error of everything before it.
        cosine: between the two.
        alone: SQNR in dB at the *model's outputs* when only this call's ranges and the layer's kernels round.
        kernel: of that, when only the kernels round; ``None`` without quantized kernels.
        activations: of that, when only the call's ranges round; ``None`` where it has none of its own.
    """

    layer: str
    call: int
    sqnr: float
    cosine: float
    alone: float
    kernel: float | None
    activations: float | None


@dataclass(frozen=True)
class QuantizationReport:
    """What :func:`analyse` found; ``print`` shows it as a table.

    Attributes:
        model: name of the model.
        images: how many images it was measured on.
        output_sqnr: SQNR in dB of the quantized model at its outputs.
        layers: the calls, those that do the outputs most harm first.
    """

    model: str
    images: int
    output_sqnr: float
    layers: tuple[LayerError, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)

    def plot(self, path: str | os.PathLike[str], *, most: int = 40) -> None:
        """Draws a bar chart, written whole or not at all; needs matplotlib.

        Args:
            path: where the PNG shall be.
            most: how many calls to show, worst first.
        """
        _draw(self, path, most)

    def __str__(self) -> str:
        rows = (
            (row.layer, str(row.call), *map(_decibel, (row.alone, row.kernel, row.activations)), _decibel(row.sqnr),
             f"{row.cosine:.5f}")
            for row in self.layers
        )  # fmt: skip
        figures = ("call", "alone dB", "kernel dB", "ranges dB", "at it dB", "cosine")
        head = f"{self.model} on {self.images} images: SQNR at the outputs {self.output_sqnr:.1f} dB"
        note = "alone, kernel, ranges: at the model's outputs, only these rounding. at it: all rounding, at the layer."
        return as_text(head, table("Error by layer call, worst first", ("layer",), figures, rows), note)


def _decibel(value: float | None) -> str:
    return "-" if value is None else "exact" if value >= NO_ERROR else f"{value:.1f}"


def _draw(report: QuantizationReport, path: str | os.PathLike[str], most: int = 40) -> None:
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
