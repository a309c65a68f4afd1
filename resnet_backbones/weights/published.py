"""What is known of published weights: how they want their images, and their licence."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from resnet_backbones.registry import all_entries
from resnet_backbones.specs.preprocessing import Preprocessing, as_preprocessing
from resnet_backbones.variants import sources
from resnet_backbones.weights import hub
from resnet_backbones.weights.files import local_file
from resnet_backbones.weights.readers import import_safetensors


@dataclass(frozen=True)
class Pixels:
    """How weights want images of 0 to 255.

    Args:
        preprocessing: what is to be done to them; ``None`` for nothing.
        name: what it is called.
    """

    preprocessing: Preprocessing | None
    name: str


def source_of(weights: str) -> str:
    """An address without revision and checksum, as the registry has it."""
    if weights.startswith(hub.PREFIX):
        repository, _, file = hub.parse(weights)
        return f"{hub.PREFIX}{repository}" + ("" if file == hub.DEFAULT_FILE else f"/{file}")
    return weights.partition("#")[0]


def pixels_for(weights: str | os.PathLike[str]) -> Pixels | None:
    """How weights want their images: as the registry says of their source, or as the file itself does.

    Args:
        weights: what ``weights=`` of ``create_backbone`` takes. An address is downloaded.

    Returns:
        ``None`` where nothing is known.
    """
    source = source_of(os.fspath(weights))
    for entry in all_entries():
        if source in (source_of(one) if one.startswith(hub.PREFIX) else one for one in entry.weights):
            name = sources.pixels_of(source, entry.preprocessing)
            return None if name is None else Pixels(as_preprocessing(name), repr(name))
    return _recorded(weights)


def _recorded(weights: Any) -> Pixels | None:
    path = local_file(weights)
    if not path.name.lower().endswith(".safetensors"):
        return None
    try:
        with import_safetensors().safe_open(path, framework="numpy") as file:
            about = (file.metadata() or {}).get("preprocessing")
        found = None if about is None else as_preprocessing(json.loads(about))
    except Exception:  # loading it says what is wrong with the file
        return None
    return None if about is None else Pixels(found, about)


def first_source(name: str, published: tuple[str, ...]) -> str:
    """The first of a backbone's published weights, at a fixed revision.

    Where the registry gives none, the revision is the one that was first downloaded on this machine.

    Raises:
        ValueError: none are known, or the first are no file.
        OSError: the Hub cannot be asked.
    """
    if not published:
        raise ValueError(
            f"no published weights of backbone {name!r} are known: pass weights= a file or address, or none."
        )
    source = published[0]
    if not source.startswith((hub.PREFIX, "https://")):
        local_file(source)  # raises, and says how to take them from the library that has them
    return hub.pinned(source) if source.startswith(hub.PREFIX) else source
