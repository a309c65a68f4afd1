"""From one weights file to another: the body of ``resnet-backbones convert``."""

from __future__ import annotations

import os
from dataclasses import dataclass

from resnet_backbones._util.checks import one_of
from resnet_backbones._util.files import check_not_read
from resnet_backbones.backbones.model import Backbone
from resnet_backbones.weights.files import load_file, save
from resnet_backbones.weights.names import OWN, SOURCES
from resnet_backbones.weights.places import local_file
from resnet_backbones.weights.published import pixels_for
from resnet_backbones.weights.targets import find_target
from resnet_backbones.weights.transfer import warn_of_pixels


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
