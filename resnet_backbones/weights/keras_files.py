"""Keras' own files: ``.weights.h5`` and ``.keras``.

Of a weights file Keras ignores what it has too much and stops half-way at what it lacks; so they are compared first.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones._util.gate import UnreadableFileError, unreadable
from resnet_backbones.errors import WeightsMismatchError
from resnet_backbones.saving import load_model
from resnet_backbones.weights.libraries import arrays_of, from_keras_model, load_arrays, recognise
from resnet_backbones.weights.names import KERAS_SOURCES
from resnet_backbones.weights.readers import Array, hdf5, sign_hdf5
from resnet_backbones.weights.targets import Target, find_target
from resnet_backbones.weights.transfer import Problems, adapt_input_channels, warn_of_others

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
    with hdf5(path) as arrays, tempfile.TemporaryDirectory() as folder:
        found = {name: array for name, array in arrays.items() if _is_weight(name)}
        own, model, expected = _own_file(target, Path(folder), found)
        if model is not target.model:
            model = target.backbone  # raises where there are several
        stems = _find_stems(own, target)
        label = _labels(model)
        problems = Problems(target, where)
        problems.found["missing"] = [name + label(name) for name in expected if name not in found]
        problems.found["unexpected"] = [name for name in found if name not in expected]
        fits = {
            name: found[name]
            for name, (shape, floats) in expected.items()
            if name in found
            and problems.fits(
                name + label(name), found[name], found[name].shape, shape, floats=floats, adaptable=name in stems
            )
        }
        problems.report(skip=skip_mismatch and bool(fits), warns=False)  # before anything is read
        # Keras loads the model's own file, in which everything that fits has the other's values: whole, in any case.
        infinite = _overwrite(own, fits, stems)
        problems.found["with NaN or infinity"] = [name + label(name) for name in infinite]
        problems.report(skip=skip_mismatch and len(infinite) < len(fits))
        try:
            model.load_weights(own)
        except Exception as error:
            raise WeightsMismatchError(f"{where} does not fit {model.name!r}: {error}") from error
    if model is not target.model:
        warn_of_others(replace(target, complete=False), where)


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
    except (ImportError, FileNotFoundError, UnreadableFileError):
        raise
    except Exception as error:  # whatever Keras raises of a file that is none
        raise unreadable(path, "Keras model", error) from error
    if not target.complete and _kind(model) == _kind(target.model):  # the same task: all of it
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "whole.weights.h5"
            write_weights(model, whole)
            load_weights_file(target, whole, where=where, skip_mismatch=skip_mismatch)
        return
    try:
        theirs = find_target(model)
    except TypeError:  # no backbone of ours is in it
        arrays = arrays_of(model)
    else:
        if len(theirs.backbones) > 1:
            names = [one.name for one in theirs.backbones]
            raise ValueError(
                f"{where} holds {len(names)} backbones: {', '.join(map(repr, names))}. Load it with "
                "rb.load_model, and save the one that is meant to a file of its own with weights.save(model, path, "
                f"backbone={names[0]!r})."
            )
        arrays = {slot.name: slot.value for slot in theirs.slots()}
    source = source or recognise(target, arrays)
    if source in KERAS_SOURCES:
        from_keras_model(target, source, model, skip_mismatch)
    else:
        load_arrays(target, source, arrays, where=where, skip_mismatch=skip_mismatch)


def _kind(model: Any) -> str:
    """The name of the model's class; a quantized model has that of the float one."""
    return getattr(type(model), "_float_class", type(model)).__name__


def _is_weight(name: str) -> bool:
    """Whether an array of a weights file is more than what only training needs."""
    return not any(word in name for word in _NOT_WEIGHTS)


def _own_file(target: Target, folder: Path, found: Mapping[str, Any]) -> tuple[Path, Any, dict[str, tuple[Any, bool]]]:
    """The weights file of the model or of a backbone in it, whichever has most in common with the one ``found``.

    Returns:
        The file, the model it is of, and name -> shape and whether it holds floats.
    """
    candidates: list[tuple[Path, Any, dict[str, tuple[Any, bool]]]] = []
    for number, model in enumerate({id(one): one for one in (target.model, *target.backbones)}.values()):
        own = folder / f"own{number}.weights.h5"
        write_weights(model, own)
        with hdf5(own) as arrays:
            expected = {name: (array.shape, array.is_float) for name, array in arrays.items() if _is_weight(name)}
        candidates.append((own, model, expected))
    return max(candidates, key=lambda candidate: len(candidate[2].keys() & found.keys()))


def write_weights(model: Any, path: Path, *, sign: bool = False) -> None:
    """Keras' ``save_weights``, of which a full disk is an ``OSError``.

    Args:
        model: any model.
        path: ending in ``.weights.h5``.
        sign: writes each array's digest beside it.

    Raises:
        OSError: the file cannot be written.
    """
    _make_room(model, path)
    try:
        model.save_weights(path, overwrite=True)
        if sign:
            sign_hdf5(path)
    except NotImplementedError:
        raise
    except RuntimeError as error:
        raise OSError(f"Cannot write {path}: {error}") from error


def _make_room(model: Any, path: Path) -> None:
    """Raises ``OSError`` if the disk is too full: HDF5 would raise something else, and crash when it is next used."""
    size = sum(4 * int(np.prod(variable.shape)) + (1 << 13) for variable in model.variables) + (1 << 16)
    size *= 1 if getattr(model, "optimizer", None) is None else 3  # Adam has two values for each
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(path.parent).free < size:
                raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, f"Cannot write {path}: {error.strerror}; {size:,} bytes are needed") from error


def _find_stems(own: Path, target: Target) -> set[str]:
    """The names of the arrays that hold stems' kernels: those with their values."""
    kernels = [stem.value for stem in target.stems()]
    with hdf5(own) as arrays:
        return {
            name
            for name, array in arrays.items()
            if any(array.shape == kernel.shape and np.array_equal(array, kernel) for kernel in kernels)
        }


def _overwrite(own: Path, arrays: Mapping[str, Array], stems: set[str]) -> list[str]:
    """Puts arrays into the model's own file, one after the other; returns which are not finite and were left out."""
    import h5py

    infinite = []
    with h5py.File(own, "r+") as into:
        for name, array in arrays.items():
            value = array.values()
            if array.is_float and not np.isfinite(value).all():
                infinite.append(name)
                continue
            place = into[name]
            value = adapt_input_channels(value, place.shape) if name in stems else value
            if place.attrs.get("dtype") == "bfloat16":
                value = value.astype("bfloat16").view(place.dtype)
            place[...] = value
    return infinite


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
