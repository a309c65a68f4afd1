"""Keras' own files: the model as it is, ranges of a quantized one included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones.export.contents import Census
from resnet_backbones.export.graph import named_outputs
from resnet_backbones.export.request import Emitted, ExportRequest
from resnet_backbones.saving import load_model


def check(model: Any, request: ExportRequest) -> None:
    """Every Keras model can be a Keras file."""


def emit(model: Any, request: ExportRequest) -> Emitted:
    """The model itself; what its outputs mean is known from its class."""
    del request  # there is nothing to choose
    return Emitted(model, Census(), {})


def write(emitted: Emitted, metadata: dict[str, Any], path: Path) -> None:
    """Saves the model.

    Args:
        emitted: what :func:`emit` made.
        metadata: not kept: a Keras file has no place for it.
        path: where to.
    """
    del metadata
    emitted.data.save(path)


def runner(path: Path, _: ExportRequest) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The file loaded again, as a function of images."""
    model = load_model(path)
    return lambda images: {name: np.asarray(value) for name, value in named_outputs(model(images, training=False))}
