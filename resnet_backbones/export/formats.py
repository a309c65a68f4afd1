"""The formats a model is exported to: a row each, naming the module that makes its files."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from resnet_backbones._util.checks import one_of
from resnet_backbones.errors import did_you_mean, needed
from resnet_backbones.export.request import UNCHANGED
from resnet_backbones.runtime.feeding import RESIZES

if TYPE_CHECKING:
    from resnet_backbones.export.contents import Intermediates
    from resnet_backbones.export.request import Emitted, ExportRequest

LAYOUTS = ("NHWC", "NCHW")
TARGETS = ("tensorrt", "onnxruntime")
_USUAL = {"batch": 1, "preprocessing": False, "postprocessing": False, "layers": False, "latency": False}  # else None


class Emitter(Protocol):
    """What the module of a format offers."""

    def check(self, model: Any, request: ExportRequest) -> None:
        """Raises ``ValueError`` for what the format cannot hold, before any work is done."""

    def emit(self, model: Any, request: ExportRequest) -> Emitted:
        """Makes the file's content."""

    def write(self, emitted: Emitted, metadata: dict[str, Any], path: Path) -> None:
        """Writes content and metadata to a temporary path, which is renamed into place later."""

    def runner(self, path: Path, request: ExportRequest) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        """The file as a function: images as the Keras model takes them -> float32 outputs by the model's names."""


class Inspector(Protocol):
    """What the module of a format offers besides, if its row has the options ``"layers"`` and ``"latency"``."""

    def intermediates(self, path: Path, names: Iterable[str]) -> Intermediates:
        """The file as a function of images that gives tensors in its middle."""

    def timer(self, path: Path, threads: int) -> Callable[[], object]:
        """The file as a function of nothing that runs it once."""


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        name: as ``format=`` takes it.
        suffix: of its files; empty for a folder.
        precisions: those it can hold, the usual one of a float model first.
        module: of its emitter.
        options: arguments of ``export_model`` it knows besides: ``"batch"``, ``"input_shape"``, ``"layout"``,
            ``"target"``, ``"preprocessing"``, ``"postprocessing"``, ``"layers"``, ``"latency"``.
        layout: of the image input, unless another is asked for.
        target: whose files are made, unless another is asked for.
        needs: optional modules, the extra that brings them, and what users call it.
    """

    name: str
    suffix: str
    precisions: tuple[str, ...]
    module: str
    options: frozenset[str] = frozenset()
    layout: str = "NHWC"
    target: str | None = None
    needs: tuple[tuple[str, ...], str, str] = ((), "", "")

    def check_installed(self) -> None:
        """Raise ``ImportError``, with the line that installs it, if a package is missing."""
        modules, extra, package = self.needs
        for module in modules:
            needed(module, f"format={self.name!r}", package, extra)

    @property
    def emitter(self) -> Emitter:
        """The module that makes such files; imported when first asked for."""
        self.check_installed()
        return cast(Emitter, importlib.import_module(self.module))

    @property
    def inspector(self) -> Inspector:
        """The same module, for what it tells of finished files."""
        return cast(Inspector, importlib.import_module(self.module))


_ROWS = (
    Format(
        "litert",
        ".tflite",
        ("float32", "float16", "dynamic_range", "int8", "int16x8"),
        "resnet_backbones.export.litert.emitter",
        frozenset({"batch", "input_shape", "preprocessing", "postprocessing", "layers", "latency"}),
        needs=(("ai_edge_litert.interpreter",), "runtime", "LiteRT"),
    ),
    Format(
        "savedmodel",
        "",
        ("float32", "bfloat16"),
        "resnet_backbones.export.savedmodel",
        frozenset({"input_shape", "preprocessing"}),
    ),
    Format("keras", ".keras", (UNCHANGED,), "resnet_backbones.export.keras_file"),
    Format(
        "onnx",
        ".onnx",
        ("float32", "float16", "int8"),
        "resnet_backbones.export.onnx",
        frozenset({"batch", "input_shape", "layout", "target", "postprocessing", "layers", "latency"}),
        layout="NCHW",
        target="tensorrt",
        needs=(("onnx", "onnxruntime", "tf2onnx"), "onnx", "ONNX"),
    ),
)
FORMATS = {row.name: row for row in _ROWS}


def find_format(path: Path, name: str | None) -> Format:
    """The format a path's suffix, or a name, asks for.

    Args:
        path: where the export goes.
        name: as ``format=`` gives it; ``None`` to go by the suffix.

    Raises:
        ValueError: no such format, or none has the suffix.
    """
    if name is not None:
        one_of("format", name, tuple(FORMATS))
        return FORMATS[name]
    for row in FORMATS.values():
        if path.suffix == row.suffix:
            return row
    near = did_you_mean(path.suffix, (row.suffix for row in FORMATS.values() if row.suffix)) if path.suffix else ""
    known = ", ".join(f"{row.suffix or 'no suffix (a folder)'} for {row.name}" for row in FORMATS.values())
    raise ValueError(
        f"Cannot tell the format of {path.name!r}: name a path that ends in {known}, or give format=.{near}"
    )


def check_asked(row: Format, **asked: Any) -> None:
    """Raise for what can be seen to be wrong without a model. Imports no Keras.

    Args:
        row: the format.
        **asked: arguments of ``export_model``; those left out have their defaults.

    Raises:
        ValueError: an unknown value, or an option the format does not have.
    """
    for option, value in asked.items():
        having = [other.name for other in FORMATS.values() if option in other.options]
        if having and row.name not in having and value != _USUAL.get(option):
            raise ValueError(
                f"{option}= cannot be chosen for format {row.name!r}; formats with it: {', '.join(having)}."
            )
    batch = asked.get("batch")
    if batch is not None and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
        raise ValueError(f"batch must be a whole number of images, at least 1, or None for any number; got {batch!r}.")
    having = [other.name for other in FORMATS.values() if asked.get("precision") in other.precisions]
    if having and row.name not in having:
        raise ValueError(
            f"precision={asked['precision']!r} cannot be chosen for format {row.name!r}, which has "
            f"{', '.join(row.precisions)}; formats with it: {', '.join(having)}."
        )
    allowed = {"precision": row.precisions, "layout": LAYOUTS, "target": TARGETS, "resize": RESIZES}
    for option, values in allowed.items():
        if asked.get(option) is not None:
            one_of(option, asked[option], values)
    if asked.get("resize") is not None and row.precisions == (UNCHANGED,):
        raise ValueError(f"resize= is carried in a file's metadata, and format {row.name!r} has none. Leave it out.")
    if asked.get("layers") and asked.get("parity_data") is None:
        raise ValueError("layers=True compares every layer on images: give some as parity_data.")
