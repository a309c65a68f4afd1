"""Tables of the commands ``list`` and ``info``."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table

from resnet_backbones._util.printable import escape
from resnet_backbones.backbones import catalogue_tables as catalogue
from resnet_backbones.backbones.info import BackboneInfo

NOT_KNOWN = (
    "What it has and costs is known once it is built: backbone.feature_info, backbone.count_params(). "
    "A function of your own builds it, or a block of Keras layers of your own."
)


def list_table(infos: Iterable[BackboneInfo]) -> Table:
    """A row for each backbone."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    table.add_column("family", no_wrap=True)
    for column in ("params M", "GMACs", "input"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("P3 · P4 · P5", "int8"):
        table.add_column(column, no_wrap=True)
    table.add_column("description")
    for info in infos:
        also = f" (also {', '.join(info.aliases)})" if info.aliases else ""
        table.add_row(
            escape(info.name),
            escape(info.family),
            catalogue.millions(info.parameters),
            catalogue.gmacs(info.gmacs),
            str(info.input_size),
            catalogue.channels(info, ("P3", "P4", "P5")),
            catalogue.int8(info.quantizable),
            escape(f"unusable: {info.problem}" if info.problem else info.description + also),
        )
    return table


def print_info(console: Console, info: BackboneInfo) -> None:
    """Everything about one backbone."""
    console.print(f"[bold]{escape(info.name)}[/bold]  {escape(info.description)}")
    facts = Table.grid(padding=(0, 2))
    for label, text in _facts(info):
        facts.add_row(label, escape(text))
    console.print(facts)
    if info.problem:
        console.print(f"\n[red]Unusable:[/red] {escape(info.problem)}\n")
    elif info.levels:
        levels = Table("level", box=box.SIMPLE_HEAD)
        for column in ("channels", "stride", f"size of {info.input_size} px"):
            levels.add_column(column, justify="right")
        for level, (channels, stride) in info.levels.items():
            levels.add_row(level, str(channels), str(stride), str(-(-info.input_size // stride)))
        console.print(levels)
    else:
        console.print(f"\n{NOT_KNOWN}\n")
    if info.spec:
        fields = Table(escape(type(info.spec).__name__), "", box=box.SIMPLE_HEAD)
        for field, value in info.spec.to_dict().items():
            fields.add_row(escape(field), escape(str(value)))
        console.print(fields)
    if not info.problem:
        call = f"rb.create_backbone({info.name!r}, input_shape=({info.input_size}, {info.input_size}, 3))"
        console.print(escape(call), style="bold")


def _facts(info: BackboneInfo) -> Iterable[tuple[str, str]]:
    if info.aliases:
        yield "also called", ", ".join(info.aliases)
    yield "family", info.family
    if info.paper:
        yield "paper", info.paper
    yield "registered by", info.owner
    if info.parameters is not None and info.gmacs is not None:
        yield "parameters", f"{catalogue.millions(info.parameters)} M ({info.parameters:,}), without a classifier"
        yield "GMACs", f"{catalogue.gmacs(info.gmacs)} at {info.input_size}x{info.input_size}"
        without = f"no: LiteRT has no int8 form of {', '.join(info.float_activations)}"
        yield "int8", "every operator has an int8 form" if info.quantizable else without
    if info.preprocessing:
        yield "preprocessing", f"{info.preprocessing}: what published weights want done to images of 0 to 255"
    if info.weights:
        yield "weights", "\n".join(info.weights)
