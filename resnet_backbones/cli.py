"""The command line: ``resnet-backbones list | info | convert | doctor``. It imports TensorFlow only when it must."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resnet_backbones import __version__, plugins
from resnet_backbones.cli_tables import list_table, print_info
from resnet_backbones.errors import UnknownNameError
from resnet_backbones.information import backbone_info, list_backbones

# extra (None: always installed) -> packages it brings, as pip knows them
PACKAGES: dict[str | None, tuple[str, ...]] = {
    None: ("numpy", "keras", "tensorflow", "tf_keras"),
    "keras-cv": ("keras-cv",),
    "keras-hub": ("keras-hub",),
    "quantization": ("tensorflow-model-optimization",),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "runtime": ("ai-edge-litert",),
    "weights": ("huggingface_hub", "safetensors"),
    "reference": ("torch", "torchvision", "timm"),
}
SUPPORTED = ((3, 11), (3, 13))

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Residual backbones for Keras that train quantized and export to int8.",
    epilog="In Python: [bold]import resnet_backbones as rb; rb.create_backbone('resnet50')[/bold]",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


def main() -> None:
    """Entry point of the ``resnet-backbones`` command."""
    app()


def _console(*, error: bool = False) -> Console:
    # In a pipe there is no width to fit into, and a table cut at 80 columns helps nobody.
    stream = sys.stderr if error else sys.stdout
    return Console(stderr=error, highlight=False, width=None if stream.isatty() else 140)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2))


def _fail(message: str) -> typer.Exit:
    _console(error=True).print(f"[red]Error:[/red] {escape(message)}", soft_wrap=True)
    return typer.Exit(1)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"resnet-backbones {__version__}")
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
        raise _fail(str(error)) from None
    if not names:
        kept = "" if family is None and quantizable is None else " and is of the family and kind asked for"
        raise _fail(f"no backbone matches {pattern or '*'!r}{kept}. `resnet-backbones list` gives every name.")
    infos = [backbone_info(name) for name in names]
    if as_json:
        _print_json([{key: value for key, value in info.to_dict().items() if key != "spec"} for info in infos])
        return
    console = _console()
    console.print(list_table(infos))
    count = "1 backbone" if len(names) == 1 else f"{len(names)} backbones"
    console.print(
        f"{count}. P3 · P4 · P5: channels. GMACs: for one image of the input size. int8: every operator has an int8 "
        f"form.\nAll of one: resnet-backbones info {names[0]}"
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
        raise _fail(str(error)) from None
    if as_json:
        _print_json(found.to_dict())
        return
    print_info(_console(), found)


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
    channels: Annotated[int, typer.Option(help="Input channels; other than 3, the stem is adapted.")] = 3,
    skip_mismatch: Annotated[bool, typer.Option(help="Convert what fits; the rest is random and is named.")] = False,
) -> None:
    """Convert another library's weights to this one's. A classifier is left out. Exits with 1 if they do not fit."""
    from resnet_backbones.factory import create_backbone
    from resnet_backbones.weights.convert import convert as convert_file
    from resnet_backbones.weights.convert import parse_overrides

    try:
        backbone = create_backbone(name, input_shape=(None, None, channels), **parse_overrides(settings or []))
        library = source.replace("-", "_") if source else None
        done = convert_file(backbone, source_file, out, source=library, skip_mismatch=skip_mismatch)
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise _fail(str(error)) from None
    _console().print(f"{escape(out)}: {done.arrays} arrays, {done.parameters:,} parameters of {escape(name)}")


@app.command(epilog="Example: [bold]resnet-backbones doctor --run[/bold]")
def doctor(
    run: Annotated[
        bool, typer.Option("--run", help="Also import Keras and run a small backbone (takes seconds).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check this environment: Python, packages, which Keras, plug-ins. Exits with 1 when something is missing."""
    report = _examine(run)
    if as_json:
        _print_json(report)
    else:
        _show(report)
    if report["problems"]:
        raise typer.Exit(1)


def _examine(run: bool) -> dict[str, Any]:
    packages = [
        {"package": package, "version": _installed(package), "extra": extra}
        for extra, group in PACKAGES.items()
        for package in group
    ]
    problems = [
        f"{one['package']} is missing: pip install resnet-backbones"
        for one in packages
        if not (one["version"] or one["extra"])
    ]
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        problems.append(f"Python {platform.python_version()} is not supported: use 3.11, 3.12 or 3.13.")
    report: dict[str, Any] = {
        "resnet_backbones": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "keras": "tf_keras (TF_USE_LEGACY_KERAS is set)" if _legacy() else "Keras 3",
        "backbones": len(list_backbones()),
        "plugins": plugins.summary(),
        "packages": packages,
    }
    if run:
        try:
            report["run"] = _run_backbone()
        except Exception as error:  # whatever breaks is what the doctor was asked to find
            problems.append(f"a small backbone does not run: {type(error).__name__}: {error}")
    return {**report, "problems": problems}


def _run_backbone() -> str:
    import numpy as np

    from resnet_backbones.factory import create_backbone
    from resnet_backbones.keras_api import keras_name

    features = create_backbone("resnet10t", input_shape=(64, 64, 3))(np.zeros((1, 64, 64, 3), "float32"))
    return f"resnet10t ran on {keras_name()}: {tuple(features.shape)}"


def _show(report: dict[str, Any]) -> None:
    console = _console()
    for key in ("resnet_backbones", "python", "platform", "cpus", "keras", "backbones", "plugins", "run"):
        if key in report:
            console.print(f"{key.replace('_', '-'):17} {escape(str(report[key]))}")
    table = Table("package", "version", "if missing", box=box.SIMPLE_HEAD)
    for one in report["packages"]:
        wanted = f'pip install "resnet-backbones[{one["extra"]}]"' if one["extra"] else "pip install resnet-backbones"
        version = one["version"] or ("[yellow]not installed[/yellow]" if one["extra"] else "[red]missing[/red]")
        table.add_row(one["package"], version, "" if one["version"] else escape(wanted))
    console.print(table)
    for problem in report["problems"]:
        console.print(f"[red]Problem:[/red] {escape(problem)}")
    if not report["problems"]:
        console.print("[green]All that is needed is here.[/green]")


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _legacy() -> bool:
    """As ``keras_api.IS_KERAS_3``, without importing a Keras."""
    return os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")


if __name__ == "__main__":
    main()
