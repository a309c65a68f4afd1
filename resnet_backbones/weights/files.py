"""Weights from files and addresses, into files, and from one file to another (``resnet-backbones convert``)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones._util.checks import one_of
from resnet_backbones._util.files import check_not_read, written_whole
from resnet_backbones.backbones.model import Backbone
from resnet_backbones.weights.keras_files import load_model_file, load_weights_file, write_weights
from resnet_backbones.weights.libraries import load_arrays, recognise
from resnet_backbones.weights.names import OWN, SOURCES
from resnet_backbones.weights.places import local_file, pixels_for, written_suffix
from resnet_backbones.weights.readers import DIGEST, KERAS_SUFFIXES, digest_of, import_safetensors, read, suffix_of
from resnet_backbones.weights.targets import Target, find_target
from resnet_backbones.weights.transfer import warn_of_pixels


def load(
    target: Any,
    source: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    skip_mismatch: bool = False,
    backbone: str | Backbone | None = None,
    prefix: str | None = None,
) -> None:
    """Sets weights from a file, on this machine or on the web.

    Args:
        target: a backbone, or a model round one; of a classifier the dense layer is set too. With other than 3 input
            channels the stem of weights for 3 is adapted: summed for 1, else repeated, as timm does.
        source: a path; ``https://...``, which is downloaded once, into ``$RESNET_BACKBONES_CACHE`` or
            ``~/.cache/resnet_backbones``; or ``hf-hub:owner/name[@revision][/file]``, by default its
            ``model.safetensors``. By suffix: ``.weights.h5`` and ``.keras``, of this library; ``.safetensors``,
            ``.npz``, ``.h5`` (Keras 2's) and torch's ``.pt``, ``.pth`` and ``.bin``, with the names of this library,
            timm, torchvision, keras.applications or KerasHub: which, is told by the names. Nothing is unpickled.
        sha256: the SHA-256 the file must have; an address may also end in ``#sha256=...``.
        skip_mismatch: loads what fits and warns, naming the rest.
        backbone: which backbone of a model that holds several, by name or itself; it alone is set.
        prefix: of a checkpoint by torch's names that holds the network several times, which; as in
            :func:`resnet_backbones.weights.from_timm`.

    A ``.keras`` or ``.weights.h5`` file of a whole model (a detector, two backbones) sets the whole model; where only
    the backbone's weights are in the file, a warning names the layers of ``target`` that keep theirs. A backbone takes
    its part of any ``.keras`` file. A warning says if the weights want other images than the backbone was built to
    take, or if nothing says what they want; ``create_backbone(..., preprocessing=...)`` settles it.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: reading the file needs an optional package; the message names it.
        OSError: the file cannot be downloaded.
        TypeError: ``target`` holds no backbone.
        ValueError: the file is of another kind, cannot be read, refers to other files, or has another SHA-256; or
            ``target`` holds several backbones and none is chosen.
        WeightsMismatchError: the file's weights do not fit; ``target`` keeps its own.

    Example:
        >>> weights.save(backbone, "mine.safetensors")
        >>> weights.load(create_backbone("resnet18"), "mine.safetensors")
        >>> weights.load(create_backbone("resnet50"), "hf-hub:timm/resnet50.a1_in1k")
    """
    found = find_target(target, backbone)
    name = os.fspath(source)
    if not name.lower().endswith(KERAS_SUFFIXES):
        _ = found.backbone  # raises where there are several, before anything is downloaded
    path = local_file(source, sha256)
    load_file(found, path, where=repr(name), skip_mismatch=skip_mismatch, prefix=prefix)
    if found.is_backbone or not name.lower().endswith(KERAS_SUFFIXES):  # else a whole model's own
        warn_of_pixels(found, pixels_for(source, path), repr(name))


def load_file(
    target: Target,
    path: Path,
    *,
    where: str,
    source: str | None = None,
    skip_mismatch: bool = False,
    prefix: str | None = None,
) -> None:
    """Sets weights from a local file; ``source``, whose names it has, is told by the names if it is ``None``."""
    suffix = suffix_of(path.name)
    if prefix is not None and suffix in KERAS_SUFFIXES:
        raise ValueError(f"prefix={prefix!r} is for checkpoints of torch; {where} is a file of Keras.")
    if suffix == ".weights.h5":
        load_weights_file(target, path, where=where, skip_mismatch=skip_mismatch)
    elif suffix == ".keras":
        load_model_file(target, path, where=where, source=source, skip_mismatch=skip_mismatch)
    else:
        with read(path) as arrays:
            source = source or recognise(target, arrays)
            load_arrays(target, source, arrays, where=where, skip_mismatch=skip_mismatch, prefix=prefix)


def save(target: Any, path: str | os.PathLike[str], *, backbone: str | Backbone | None = None) -> None:
    """Writes weights to a file that :func:`load` reads; whole, or not at all.

    Args:
        target: a backbone, or a classifier round one, whose dense layer is written too.
        path: ending in ``.safetensors`` or ``.npz`` (arrays by the names of the layers, in Keras' axis order), or
            ``.weights.h5`` (Keras' own; any model round a backbone will do).
        backbone: which backbone of a model that holds several, by name or itself; it is then saved alone.

    Raises:
        ImportError: safetensors is not installed; the message names the extra.
        OSError: the file cannot be written.
        TypeError: ``target`` holds no backbone.
        ValueError: the path ends in something else, or ``target`` has weights besides a backbone and a classifier.

    Example:
        >>> weights.save(create_backbone("resnet18"), "mine.safetensors")
    """
    path = Path(path)
    suffix = written_suffix(path)
    found = find_target(target, backbone)
    if not found.complete and suffix != ".weights.h5":
        raise ValueError(
            f"{suffix} files hold the weights of a backbone and a classifier's dense layer; {target.name!r} has more "
            f"({', '.join(found.others()) or 'several backbones'}). Save all of it with weights.save(model, "
            "'name.weights.h5') or model.save('name.keras'), which weights.load reads whole; or one backbone alone: "
            "weights.save(model, path, backbone='its name')."
        )
    safetensors = import_safetensors() if suffix == ".safetensors" else None
    with written_whole(path) as temporary:
        if suffix == ".weights.h5":
            write_weights(found.model, temporary, sign=True)
            return
        arrays = {slot.name: np.ascontiguousarray(slot.value) for slot in found.slots()}
        if safetensors is not None:
            try:
                safetensors.numpy.save_file(arrays, temporary, metadata=_metadata(found, arrays))
            except safetensors.SafetensorError as error:
                raise OSError(f"Cannot write {path}: {error}") from error
        else:
            with temporary.open("wb") as file:  # by its name numpy would take one in capitals for another
                np.savez(file, **arrays)


def _metadata(target: Target, arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """What a safetensors file says of itself."""
    spec = target.backbone.spec
    about = {"format": "resnet_backbones", "name": target.backbone.name}
    about[DIGEST] = json.dumps({name: digest_of(array) for name, array in arrays.items()})
    if spec is not None:
        wanted = spec.preprocessing
        about["spec"] = json.dumps(spec.to_dict())
    if spec is not None and target.backbone.pixels != "in doubt":
        about["preprocessing"] = json.dumps(None if wanted is None else wanted.to_dict())
    return about


@dataclass(frozen=True)
class Converted:
    """What was written.

    Args:
        arrays: number of arrays.
        parameters: number of values in them.
    """

    arrays: int
    parameters: int


def convert(
    backbone: Backbone,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    source: str | None = None,
    skip_mismatch: bool = False,
    prefix: str | None = None,
) -> Converted:
    """Reads weights by another library's names into a backbone and writes those of this library.

    Args:
        backbone: what the weights are for; it has them then.
        path: what :func:`resnet_backbones.weights.load` takes; a classifier in it is left out.
        out: what :func:`resnet_backbones.weights.save` takes.
        source: ``"timm"``, ``"torchvision"``, ``"keras_applications"``, ``"keras_hub"`` or ``"resnet_backbones"``;
            ``None``: told by the names.
        skip_mismatch: converts what fits; the rest stays as it is, and a warning names it.
        prefix: of a checkpoint that holds the network several times, which.

    Raises:
        OSError: a file is not there or cannot be written.
        ValueError: the weights do not fit or cannot be read, or ``out`` is ``path``; nothing is written.

    Example:
        >>> convert(create_backbone("resnet50"), "weights.safetensors", "out.weights.h5", source="timm").arrays
        265
    """
    if source is not None:
        one_of("source", source, (*SOURCES, OWN))
    check_not_read(out, path)
    target, where = find_target(backbone), repr(os.fspath(path))
    local = local_file(path)
    load_file(target, local, where=where, source=source, skip_mismatch=skip_mismatch, prefix=prefix)
    warn_of_pixels(target, pixels_for(path, local), where, warns=False)
    save(backbone, out)
    return Converted(len(target.slots()), backbone.count_params())
