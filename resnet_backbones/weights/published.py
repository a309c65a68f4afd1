"""What is known of published weights: how they want their images, and their licence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_backbones._util.gate import check_keras_file
from resnet_backbones.backbones import catalogue
from resnet_backbones.backbones.registry import all_entries
from resnet_backbones.backbones.spec_values import Preprocessing, as_preprocessing
from resnet_backbones.weights import hub
from resnet_backbones.weights.places import local_file
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


def pixels_for(weights: str | os.PathLike[str], path: Path | None = None) -> Pixels | None:
    """How weights want their images: as the registry says of their source, or as the file itself does.

    Args:
        weights: what ``weights=`` of ``create_backbone`` takes. An address is downloaded.
        path: the file on this machine, where that is known.

    Returns:
        ``None`` where nothing is known.
    """
    source = source_of(os.fspath(weights))
    for entry in all_entries():
        if source in (source_of(one) if one.startswith(hub.PREFIX) else one for one in entry.weights):
            name = catalogue.pixels_of(source, entry.preprocessing)
            return None if name is None else Pixels(as_preprocessing(name), repr(name))
    return _recorded(path or local_file(weights))


def _recorded(path: Path) -> Pixels | None:
    try:
        if path.name.lower().endswith(".keras"):
            specs = list(_specs_in(json.loads(check_keras_file(path))))
            about = json.dumps(specs[0].get("preprocessing")) if len(specs) == 1 else None
        elif path.name.lower().endswith(".safetensors"):
            with import_safetensors().safe_open(path, framework="numpy") as file:
                about = (file.metadata() or {}).get("preprocessing")
        else:
            return None
        return None if about is None else Pixels(as_preprocessing(json.loads(about)), about)
    except Exception:  # loading it says what is wrong with the file
        return None


def _specs_in(config: Any) -> Iterator[dict[str, Any]]:
    """The specs of the backbones in a ``.keras`` file's configuration."""
    if isinstance(config, dict) and config.get("registered_name") == "resnet_backbones>SpecBackbone":
        yield config["config"]["spec"]
    elif isinstance(config, dict | list):
        for part in config.values() if isinstance(config, dict) else config:
            yield from _specs_in(part)


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
