"""Weights from local files: ``.weights.h5`` and ``.keras``."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_backbones.backbone import Backbone
from resnet_backbones.errors import WeightsMismatchError
from resnet_backbones.saving import load_model
from resnet_backbones.weights.transfer import assign, check, weighted_layers

_NOT_WEIGHTS = ("optimizer/", "metrics/", "seed_generator/")


def load(backbone: Backbone, path: str | os.PathLike[str]) -> None:
    """Sets a backbone's weights from a file.

    Args:
        backbone: any backbone.
        path: ``.weights.h5``, as ``backbone.save_weights`` writes it, or ``.keras``, as ``backbone.save`` does.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is neither, or cannot be read.
        WeightsMismatchError: the file's weights do not fit; the backbone keeps its own.

    Example:
        >>> backbone.save_weights("mine.weights.h5")
        >>> weights.load(create_backbone("resnet18"), "mine.weights.h5")
    """
    path = Path(path)
    if not path.name.endswith((".weights.h5", ".keras")):
        raise ValueError(f"weights come from a .weights.h5 or a .keras file; got {str(path)!r}.")
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {str(path.absolute())!r}. Nothing is ever downloaded.")
    if path.suffix == ".keras":
        _load_model_file(backbone, path)
    else:
        _load_weights_file(backbone, path)


def _load_model_file(backbone: Backbone, path: Path) -> None:
    try:
        model = load_model(path, compile=False)
    except Exception as error:
        raise ValueError(f"{str(path)!r} cannot be read as a Keras model: {error}") from error
    source = {
        f"{name}.{weight}": getattr(layer, weight).numpy()
        for name, (layer, weights) in weighted_layers(model).items()
        for weight in weights
    }
    ours = weighted_layers(backbone)
    keys = {(name, weight): f"{name}.{weight}" for name, (_, weights) in ours.items() for weight in weights}
    assign(backbone, source, keys, where=f"{str(path)!r}")


def _load_weights_file(backbone: Backbone, path: Path) -> None:
    # Keras ignores what a file has too much and stops half-way at what it lacks; so compare first.
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "own.weights.h5"
        backbone.save_weights(own)
        expected = _layout(own)
    found = _layout(path)
    label = _labels(backbone)
    check(
        backbone.name,
        f"{str(path)!r}",
        missing=[name + label(name) for name in expected if name not in found],
        unexpected=[name for name in found if name not in expected],
        wrong=[
            f"{name}{label(name)}: {found[name]}, not {shape}"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ],
    )
    try:
        backbone.load_weights(path)
    except Exception as error:
        raise WeightsMismatchError(f"{str(path)!r} does not fit backbone {backbone.name!r}: {error}") from error


def _labels(backbone: Backbone) -> Callable[[str], str]:
    """Tells which layer a name in a weights file means: Keras counts layers of each class there."""
    counts: dict[str, int] = {}
    layers = {}
    for layer in backbone.layers:
        kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        layers[f"{kind}_{number}" if number else kind] = layer.name
    return lambda name: f" ({layers[part]})" if (part := name.split("/")[1]) in layers else ""


def _layout(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every array in a weights file, but for what only training needs."""
    import h5py

    shapes: dict[str, tuple[int, ...]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not any(word in name for word in _NOT_WEIGHTS):
            shapes[name] = tuple(item.shape)

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read as a weights file: {error}") from error
    return shapes
