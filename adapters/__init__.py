"""Backbones of this library inside other libraries' detectors, classifiers and segmenters.

One module a library, loaded when first used: ``adapters.keras_cv``. ``contracts`` says what each task reads of a
backbone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_backbones.adapters import contracts, keras_cv

__all__ = ["contracts", "keras_cv"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}.")
