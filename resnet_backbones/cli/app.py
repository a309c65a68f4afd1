"""The command line, ``resnet-backbones``: the app and its light commands. Larger ones have modules beside it.

TensorFlow is imported only when a command must, numpy and the rest only when it runs: ``doctor`` must work without.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from resnet_backbones import __version__
from resnet_backbones._util.checks import one_of
from resnet_backbones._util.files import check_not_read, check_writable
from resnet_backbones._util.text import escape
from resnet_backbones.backbones import catalogue_tables as catalogue
from resnet_backbones.backbones.info import BackboneInfo, backbone_info, list_backbones, outline_of, spec_of
from resnet_backbones.backbones.registry import find_backbone
from resnet_backbones.backbones.spec import ACTIVATIONS
from resnet_backbones.cli import benchmark as cli_benchmark
from resnet_backbones.cli import compare as cli_compare
from resnet_backbones.cli import doctor as cli_doctor
from resnet_backbones.cli import export as cli_export
from resnet_backbones.cli import predict as cli_predict
from resnet_backbones.cli.common import AsJson, console, errors_in_one_line, fail, must_be_there, print_json, say
from resnet_backbones.cli.streams import CannotPrintError, make_printable, own_output, without_greetings
from resnet_backbones.errors import UnknownNameError, did_you_mean

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Residual backbones for Keras that train quantized and export to int8.",
    epilog="In Python: [bold]import resnet_backbones as rb; rb.create_backbone('resnet50')[/bold]",
)


def main() -> None:
    """Entry point of the ``resnet-backbones`` command."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings would bury an error's one line
    os.environ.setdefault("TQDM_DISABLE", "1")  # the commands show their progress themselves
    make_printable()
    try:
        with own_output(), without_greetings():
            app()
    except CannotPrintError as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, BrokenPipeError):
            fail(f"standard output cannot be written: {error.__cause__.strerror or error.__cause__}.")
        sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        say(f"resnet-backbones {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command(
    "list", epilog="Example: [bold]resnet-backbones list 'resnet*50*'[/bold]  (quote it: the shell reads * too)"
)
def list_command(
    pattern: Annotated[
        str | None, typer.Argument(help="Keep names like this; * stands for anything, ? for a letter.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Keep one family, e.g. resnext.")] = None,
    quantizable: Annotated[
        bool | None,
        typer.Option("--quantizable/--not-quantizable", help="Keep those whose operators all have an int8 form."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List backbones, plug-ins' included. Exits with 1 when none matches."""
    try:
        names = list_backbones(pattern, family=family, quantizable=quantizable)
    except UnknownNameError as error:
        raise fail(str(error)) from None
    if not names:
        kept = "" if family is None and quantizable is None else " and is of the family and kind asked for"
        near = did_you_mean(pattern, list_backbones()) if pattern else ""
        raise fail(f"no backbone matches {pattern or '*'!r}{kept}.{near} `resnet-backbones list` gives every name.")
    infos = [backbone_info(name) for name in names]
    if as_json:
        print_json([{key: value for key, value in info.to_dict().items() if key != "spec"} for info in infos])
        return
    out = console()
    out.print(list_table(infos))
    count = "1 backbone" if len(names) == 1 else f"{len(names)} backbones"
    out.print(
        f"{count}. P3 · P4 · P5: channels. GMACs: for one image of the input size. int8: every operator has an int8 "
        f"form.\nAll of one: resnet-backbones info {escape(shlex.quote(names[0]))}"
    )


@app.command(epilog="Example: [bold]resnet-backbones info resnet50d[/bold]")
def info(
    name: Annotated[str, typer.Argument(help="Name or alias of a backbone, as `list` prints it.")],
    as_json: AsJson = False,
) -> None:
    """Show what a backbone is: cost, levels, paper, weights, spec. Exits with 1 for an unknown name."""
    try:
        found = backbone_info(name)
    except UnknownNameError as error:
        raise fail(str(error)) from None
    if as_json:
        print_json(found.to_dict())
        return
    print_info(console(), found)


app.command(epilog=cli_compare.EXAMPLE)(cli_compare.compare)


@app.command(
    epilog="Example: [bold]resnet-backbones convert --from timm --name resnet50 in.safetensors out.weights.h5[/bold]"
)
def convert(
    source_file: Annotated[
        str, typer.Argument(metavar="IN", help="A .safetensors, .npz, .pt, .pth, .bin, .h5, .weights.h5, .keras file.")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Ending in .weights.h5, .safetensors or .npz.")],
    name: Annotated[str, typer.Option("--name", help="The backbone, as `list` prints it.")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="timm, torchvision, keras-applications or keras-hub; if not given, told by names."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the spec.")
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Input channels; other than 3, the stem is adapted.")] = 3,
    skip_mismatch: Annotated[bool, typer.Option(help="Convert what fits; the rest is random and is named.")] = False,
    prefix: Annotated[
        str | None, typer.Option(help="Which network, where a checkpoint holds several: its names' prefix, or a part.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert another library's weights to this one's. A classifier is left out. Exits with 1 if they do not fit."""
    with errors_in_one_line():
        if "://" not in source_file and not source_file.startswith("hf-hub:"):
            must_be_there(Path(source_file).expanduser())
        from resnet_backbones.weights.names import OWN, SOURCES
        from resnet_backbones.weights.places import check_source, written_suffix

        check_not_read(out, source_file)
        check_writable(out)
        written_suffix(out)
        check_source(source_file)
        library = source.replace("-", "_") if source else None
        if library is not None:
            one_of("source", library, (*SOURCES, OWN))
        fields, entry = parse_overrides(settings or []), find_backbone(name)
        if (spec := spec_of(entry)) is not None:
            spec = spec.replace(**fields)
            outline_of(spec, entry.input_size)  # raises what building it would
            if ">" not in spec.activation:
                one_of("activation", spec.activation, tuple(sorted(ACTIVATIONS)))
        from resnet_backbones.factory import create_backbone
        from resnet_backbones.weights.files import convert as convert_file

        backbone = create_backbone(name, input_shape=(None, None, channels), **fields)
        done = convert_file(backbone, source_file, out, source=library, skip_mismatch=skip_mismatch, prefix=prefix)
    if as_json:
        print_json({"name": name, **asdict(done), "path": out})
        return
    console().print(f"{escape(out)}: {done.arrays} arrays, {done.parameters:,} parameters of {escape(name)}")


def parse_overrides(settings: list[str]) -> dict[str, Any]:
    """``["conv_bias=true", "stem=deep"]`` as fields: values are JSON where they can be, else text.

    Raises:
        ValueError: a setting has no ``=``.
    """
    fields = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set takes field=value, e.g. --set bn_epsilon=1.001e-5; got {setting!r}.")
        try:
            fields[field] = json.loads(text)
        except json.JSONDecodeError:
            fields[field] = text
    return fields


for _command, _example in (
    (cli_export.export, cli_export.EXAMPLE),
    (cli_benchmark.benchmark, cli_benchmark.EXAMPLE),
    (cli_predict.predict, cli_predict.EXAMPLE),
    (cli_export.check, cli_export.CHECK_EXAMPLE),
    (cli_doctor.doctor, cli_doctor.EXAMPLE),
):
    app.command(epilog=_example)(_command)


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


if __name__ == "__main__":
    main()
