"""The command line: ``resnet-backbones list | info | doctor``. Nothing here imports TensorFlow unless asked to."""

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
from resnet_backbones.errors import UnknownNameError
from resnet_backbones.registry import BackboneInfo, backbone_info, list_backbones

# extra (None: always installed) -> packages it brings, as pip knows them
PACKAGES: dict[str | None, tuple[str, ...]] = {
    None: ("numpy", "keras", "tensorflow", "tf_keras"),
    "keras-cv": ("keras-cv",),
    "keras-hub": ("keras-hub",),
    "quantization": ("tensorflow-model-optimization",),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "runtime": ("ai-edge-litert",),
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
    as_json: AsJson = False,
) -> None:
    """List backbones, plug-ins' included. Exits with 1 when none matches."""
    names = list_backbones(pattern)
    if not names:
        raise _fail(f"no backbone matches {pattern!r}. `resnet-backbones list` gives every name.")
    infos = [backbone_info(name) for name in names]
    if as_json:
        _print_json([_as_dict(info, spec=False) for info in infos])
        return
    table = Table("name", "block", "depths", "stem", "shortcut", "P3 / P4 / P5", "description", box=box.SIMPLE_HEAD)
    for info in infos:
        spec = info.spec
        shape = (spec.block, "-".join(map(str, spec.depths)), spec.stem, spec.shortcut) if spec else ("", "", "", "")
        channels = " / ".join(str(info.levels[level][0]) for level in ("P3", "P4", "P5") if level in info.levels)
        also = f" (also {', '.join(info.aliases)})" if info.aliases else ""
        table.add_row(info.name, *shape, channels, escape(info.description + also))
    console = _console()
    console.print(table)
    count = "1 backbone" if len(names) == 1 else f"{len(names)} backbones"
    console.print(f"{count}. P3 / P4 / P5: channels. More of one: resnet-backbones info {names[0]}")


@app.command(epilog="Example: [bold]resnet-backbones info resnet50d[/bold]")
def info(
    name: Annotated[str, typer.Argument(help="Name or alias of a backbone, as `list` prints it.")],
    as_json: AsJson = False,
) -> None:
    """Show what a backbone is: its spec, channels and stride of each level. Exits with 1 for an unknown name."""
    try:
        found = backbone_info(name)
    except UnknownNameError as error:
        raise _fail(str(error)) from None
    if as_json:
        _print_json(_as_dict(found, spec=True))
        return
    console = _console()
    console.print(f"[bold]{escape(found.name)}[/bold]  {escape(found.description)}")
    if found.aliases:
        console.print(f"also called {escape(', '.join(found.aliases))}")
    console.print(f"registered by {escape(found.owner)}")
    if found.spec is None:
        console.print("\nA function builds this model: its levels are known once it is built, from `feature_info`.")
    else:
        levels = Table("level", "channels", "stride", box=box.SIMPLE_HEAD)
        for level, (channels, stride) in found.levels.items():
            levels.add_row(level, str(channels), str(stride))
        fields = Table("spec", "", box=box.SIMPLE_HEAD)
        for field, value in found.spec.to_dict().items():
            fields.add_row(field, escape(str(value)))
        console.print(levels, fields)
    console.print(f"rb.create_backbone({found.name!r}, input_shape=(224, 224, 3))", style="bold")


def _as_dict(found: BackboneInfo, *, spec: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": found.name,
        "aliases": list(found.aliases),
        "description": found.description,
        "owner": found.owner,
        "levels": {
            level: {"channels": channels, "stride": stride} for level, (channels, stride) in found.levels.items()
        },
    }
    return {**data, "spec": found.spec.to_dict() if found.spec else None} if spec else data


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
