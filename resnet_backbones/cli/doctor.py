"""``resnet-backbones doctor``: what is installed, what is missing, and the line that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from resnet_backbones import __version__
from resnet_backbones._util.text import escape
from resnet_backbones.backbones import plugins
from resnet_backbones.backbones.info import list_backbones
from resnet_backbones.cli.common import AsJson, console, print_json

EXAMPLE = "Example: [bold]resnet-backbones doctor --run[/bold]"
# extra (None: always installed) -> packages it brings, as pip knows them
PACKAGES: dict[str | None, tuple[str, ...]] = {
    None: ("numpy", "rich", "tqdm", "typer"),
    "tensorflow": ("keras", "tensorflow", "tf_keras"),
    "keras-cv": ("keras-cv",),
    "keras-hub": ("keras-hub",),
    "quantization": ("tensorflow-model-optimization",),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "runtime": ("ai-edge-litert",),
    "openvino": ("openvino",),
    "images": ("pillow",),
    "weights": ("huggingface_hub", "safetensors"),
    "plots": ("matplotlib",),
    "torch": ("torch",),
    "reference": ("torchvision", "timm"),
}
# Of no extra: they need a GPU and its driver, or are chosen by it.
ON_THEIR_OWN = ("tensorrt", "cuda-python")
SUPPORTED = ((3, 11), (3, 13))


def doctor(
    run: Annotated[
        bool, typer.Option("--run", help="Also import Keras and run a small backbone (takes seconds).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check this environment: Python, packages, which Keras, plug-ins. Exits with 1 when something is missing."""
    report = _examine(run)
    if as_json:
        print_json(report)
    else:
        _show(report)
    if report["problems"]:
        raise typer.Exit(1)


def _examine(run: bool) -> dict[str, Any]:
    packages = [
        _package(package, extra, needed=extra is None, mend=_mend(extra))
        for extra, group in PACKAGES.items()
        for package in group
    ]
    packages += [_package(package, None, needed=False, mend=f"pip install {package}") for package in ON_THEIR_OWN]
    problems = [
        f"{one['package']} is missing: {one['mend']}" for one in packages if one["needed"] and not one["version"]
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
    from resnet_backbones.keras_compat import keras_name

    features = create_backbone("resnet10t", input_shape=(64, 64, 3))(np.zeros((1, 64, 64, 3), "float32"))
    return f"resnet10t ran on {keras_name()}: {tuple(features.shape)}"


def _show(report: dict[str, Any]) -> None:
    out = console()
    for key in ("resnet_backbones", "python", "platform", "cpus", "keras", "backbones", "plugins", "run"):
        if key in report:
            out.print(f"{key.replace('_', '-'):17} {escape(str(report[key]))}")
    table = Table("package", "version", "if missing", box=box.SIMPLE_HEAD)
    for one in report["packages"]:
        version = one["version"] or ("[red]missing[/red]" if one["needed"] else "[yellow]not installed[/yellow]")
        table.add_row(escape(one["package"]), version, "" if one["version"] else escape(one["mend"]))
    out.print(table)
    for problem in report["problems"]:
        out.print(f"[red]Problem:[/red] {escape(problem)}")
    if not report["problems"]:
        out.print("[green]All that is needed is here.[/green]")


def _package(package: str, extra: str | None, *, needed: bool, mend: str) -> dict[str, Any]:
    return {"package": package, "version": _installed(package), "extra": extra, "needed": needed, "mend": mend}


def _mend(extra: str | None) -> str:
    return f'pip install "resnet-backbones[{extra}]"' if extra else "pip install resnet-backbones"


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _legacy() -> bool:
    """As ``keras_compat.IS_KERAS_3``, without importing a Keras."""
    return os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
