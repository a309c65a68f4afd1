"""Keras' own files: ``.weights.h5`` and ``.keras``.

Of a weights file Keras ignores what it has too much and stops half-way at what it lacks; so they are compared first.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones.errors import WeightsMismatchError
from resnet_backbones.saving import load_model
from resnet_backbones.weights.libraries import arrays_of, from_keras_model
from resnet_backbones.weights.names import KERAS_SOURCES
from resnet_backbones.weights.sources import load_arrays, recognise
from resnet_backbones.weights.targets import Target, find_target
from resnet_backbones.weights.transfer import adapt_input_channels, check

_NOT_WEIGHTS = ("optimizer/", "metrics/", "seed_generator/")


def load_weights_file(target: Target, path: Path, *, where: str, skip_mismatch: bool = False) -> None:
    """Sets the weights of ``target``, or of its backbone, from what ``save_weights`` wrote.

    Args:
        target: the backbone, or a model round one; a file of the backbone alone fits the backbone in it.
        path: the file.
        where: what it is, for errors.
        skip_mismatch: loads what fits and warns of the rest.

    Raises:
        ValueError: the file cannot be read.
        WeightsMismatchError: something does not fit; nothing was set.
    """
    found = layout(path)
    with tempfile.TemporaryDirectory() as folder:
        own, model, expected = _own_file(target, Path(folder), found)
        stem = _find_stem(own, target)
        adapted = adapt_input_channels(np.empty(found[stem]), expected[stem]).shape if stem in found else None
        fits = {
            name: (adapted if name == stem else found[name]) == expected[name] for name in expected if name in found
        }
        label = _labels(model)
        check(
            target,
            where,
            missing=[name + label(name) for name in expected if name not in found],
            unexpected=[name for name in found if name not in expected],
            wrong=[
                f"{name}{label(name)}: {found[name]}, not {expected[name]}" for name, fit in fits.items() if not fit
            ],
            skip_mismatch=skip_mismatch and any(fits.values()),
        )
        # Keras loads the model's own file, in which everything that fits has the other's values: whole, in any case.
        _overwrite(own, path, [name for name, fit in fits.items() if fit], stem)
        try:
            model.load_weights(own)
        except Exception as error:
            raise WeightsMismatchError(f"{where} does not fit {model.name!r}: {error}") from error


def load_model_file(
    target: Target, path: Path, *, where: str, source: str | None = None, skip_mismatch: bool = False
) -> None:
    """Sets weights from a ``.keras`` file of a backbone, a model round one, or another library's model.

    Args:
        target: the backbone, or classifier.
        path: the file.
        where: what it is, for errors.
        source: whose names its layers have; told by the names if ``None``.
        skip_mismatch: loads what fits and warns of the rest.

    Raises:
        ValueError: the file cannot be read.
        WeightsMismatchError: something does not fit; nothing was set.
    """
    try:
        model = load_model(path, compile=False)
    except ImportError:
        raise
    except Exception as error:  # whatever Keras raises of a file that is none
        raise ValueError(f"{str(path)!r} cannot be read as a Keras model: {error}") from error
    try:
        arrays = {slot.name: slot.value for slot in find_target(model).slots()}
    except TypeError:  # no backbone of ours is in it
        arrays = arrays_of(model)
    source = source or recognise(target, arrays)
    if source in KERAS_SOURCES:
        from_keras_model(target, source, model, skip_mismatch)
    else:
        load_arrays(target, source, arrays, where=where, skip_mismatch=skip_mismatch)


def layout(path: Path) -> dict[str, tuple[int, ...]]:
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


def _own_file(target: Target, folder: Path, found: dict[str, Any]) -> tuple[Path, Any, dict[str, tuple[int, ...]]]:
    """The weights file of the model or of its backbone, whichever has more in common with the one ``found``."""
    candidates = []
    for number, model in enumerate((target.model, target.backbone)):
        if model not in [candidate[1] for candidate in candidates]:
            own = folder / f"own{number}.weights.h5"
            model.save_weights(own)
            candidates.append((own, model, layout(own)))
    return max(candidates, key=lambda candidate: len(candidate[2].keys() & found.keys()))


def _find_stem(own: Path, target: Target) -> str | None:
    """The name of the array that holds the stem's kernel: the one with its values."""
    import h5py

    stem = target.stem()
    if stem is None:
        return None
    kernel = stem.value
    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape == kernel.shape and np.array_equal(item, kernel):
            names.append(name)

    with h5py.File(own) as file:
        file.visititems(visit)
    return names[0] if names else None


def _overwrite(own: Path, path: Path, names: list[str], stem: str | None) -> None:
    import h5py

    with h5py.File(own, "r+") as into, h5py.File(path) as source:
        for name in names:
            value = np.asarray(source[name])
            into[name][...] = adapt_input_channels(value, into[name].shape) if name == stem else value


def _labels(model: Any) -> Callable[[str], str]:
    """Tells which layer a name in a weights file means: Keras counts layers of each class there."""
    counts: dict[str, int] = {}
    layers = {}
    for layer in model.layers:
        kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        layers[f"{kind}_{number}" if number else kind] = layer.name
    return lambda name: f" ({layers[part]})" if (part := name.split("/")[1]) in layers else ""
