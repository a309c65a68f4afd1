"""An export report as text and as Markdown: the same tables."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from resnet_backbones._util.text import escape
from resnet_backbones.export.report.facts import ExportFacts
from resnet_backbones.export.report.findings import next_steps, verdict
from resnet_backbones.export.report.kernels import FOUR_BITS
from resnet_backbones.export.report.parity import PART_OF_ITS_OWN, TIMES_ITS_OWN, OutputParity
from resnet_backbones.export.report.plot import PICTURE_TEXT
from resnet_backbones.export.request import QUANTIZED
from resnet_backbones.quantization.rounding_noise import FACTOR_16, NUDGE

_MOST_LAYERS = 15  # shown; the JSON has all of them
_TAIL = 60  # characters of a tensor's name; its end says most


@dataclass(frozen=True)
class _Section:
    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def render(report: ExportFacts) -> str:
    """The report for a terminal."""
    console = Console(file=io.StringIO(), width=110, no_color=True)
    console.print(escape(_headline(report)), highlight=False, soft_wrap=True)  # a long path must not break the line
    for part in _tables(report):
        table = Table(*part.head, title=part.title)
        for row in part.rows:
            table.add_row(*map(escape, row))
        console.print(table)
    for line in (*_sentences(report), *_next_steps(report)):
        console.print(escape(line), highlight=False, soft_wrap=True)
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


def render_markdown(report: ExportFacts, picture: str) -> str:
    """The report as Markdown.

    Args:
        report: the report.
        picture: address of its picture.
    """
    lines = [f"# {report.path.name}", "", _headline(report), "", f"![{PICTURE_TEXT}]({picture})", ""]
    for part in _tables(report):
        lines += [f"## {part.title}", "", _row(part.head), _row(["---"] * len(part.head))]
        lines += [*map(_row, part.rows), ""]
    lines += [f"{line}\n" for line in _sentences(report)]
    return "\n".join([*lines, *_next_steps(report, "## ")]).rstrip()


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _headline(report: ExportFacts) -> str:
    head = f"{report.path}  {report.precision}  {report.size_bytes / 1e6:.2f} MB"
    if report.census.macs:
        head += f"  {report.census.macs / 1e9:.3f} GMACs, {100 * report.int8_mac_share:.2f} % in int8"
        if report.chosen_float_mac_share:
            head += f", {100 * report.chosen_float_mac_share:.2f} % in float by choice"
    return head


def _sentences(report: ExportFacts) -> Iterator[str]:
    kernels = report.kernels
    if kernels is not None:
        yield (
            f"Kernels: {kernels.equal} of {kernels.compared} hold the integers of the Keras model; "
            f"scales differ by at most {kernels.scale_error:.1e} of themselves."
        )
        if kernels.of_four_bits:
            yield f"{kernels.of_four_bits} kernels have 4 bits. {FOUR_BITS}"
    own = [entry for entry in report.parity if entry.of_itself]
    if own:
        wide = (
            f" (16-bit values by up to 1/{1 / FACTOR_16:.0f} of themselves, too)"
            if report.precision == "int16x8"
            else ""
        )
        yield (
            f"The quantized Keras model deviates from itself, too, when its values move by {NUDGE:.0e} of a step of "
            f"8 bits{wide} before they are rounded. {TIMES_ITS_OWN:g} times that is allowed, but at least "
            f"{100 * PART_OF_ITS_OWN:g} % as many values within two steps as it keeps itself: "
            + "; ".join(
                f"{entry.name!r}: {100 * entry.within_two_steps_wanted:.2f} % within two steps, "
                f"cosine {entry.cosine_wanted:.6f}"
                for entry in own
            )
            + "."
        )
    if report.compared_on not in ("", "parity_data"):
        yield f"Outputs were compared on {report.compared_on}, as no parity_data was given."
    for entry in report.parity:
        if entry.same_class_of_worst is not None:
            yield (
                f"Output {entry.name!r}: {100 * (entry.same_class or 0.0):.2f} % of the pixels have the class that "
                f"Keras gives them, of the worst class {100 * entry.same_class_of_worst:.2f} %."
            )
    yield verdict(report)


def _next_steps(report: ExportFacts, heading: str = "") -> list[str]:
    steps = next_steps(report)
    return [f"{heading}What to do", "", *(f"- {step}" for step in steps)] if steps else []


def _tables(report: ExportFacts) -> Iterator[_Section]:
    operators = sorted(report.operators.items(), key=lambda item: -item[1])
    if operators:
        rows: list[tuple[str, ...]] = [(kind, dtype, str(count)) for (kind, dtype), count in operators]
        yield _Section("Operators", ("operator", "type", "count"), rows)
    if report.precision in QUANTIZED and report.float_operators:
        rows = [(name[-_TAIL:], reason) for name, reason in report.float_operators.items()]
        yield _Section("Not int8", ("output tensor", "why"), rows)
    if report.parity:
        yield _parity(report)
    if report.layers:
        yield _layers(report)
    if report.latency:
        rows = [(e.name, str(e.threads), f"{e.minimum:.2f}", f"{e.median:.2f}", str(e.runs)) for e in report.latency]
        yield _Section("Latency on this machine, in turns", ("file", "threads", "least ms", "median ms", "runs"), rows)


def _parity(report: ExportFacts) -> _Section:
    unit = "steps" if report.precision in QUANTIZED else "float32"
    head = ("output", "values", f"max ({unit})", f"mean ({unit})", "within 2 steps", "cosine")
    rows = []
    for output in report.parity:
        rows.append(_parity_row(output.name, output))
        rows += [_parity_row("  Keras against itself", run) for run in output.of_itself]
    return _Section("Against Keras", head, rows)


def _parity_row(name: str, entry: OutputParity) -> tuple[str, ...]:
    share = "" if entry.within_two_steps is None else f"{100 * entry.within_two_steps:.2f} %"
    return name, str(entry.values), f"{entry.max_steps:.3g}", f"{entry.mean_steps:.3g}", share, f"{entry.cosine:.6f}"


def _layers(report: ExportFacts) -> _Section:
    worst = sorted(report.layers, key=lambda entry: entry.added)[:_MOST_LAYERS]
    rows = [(e.layer, f"{e.added:.1f}", f"{e.sqnr:.1f}", f"{e.cosine:.6f}") for e in worst]
    title = f"Where error enters: {len(worst)} of {len(report.layers)} layer calls, worst first"
    return _Section(title, ("layer", "enters here, dB", "SQNR, dB", "cosine"), rows)
