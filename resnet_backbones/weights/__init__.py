"""Weights for backbones and classifiers: files, addresses, and other libraries' models.

``load`` and ``save`` read and write files; ``from_timm``, ``from_torchvision``, ``from_keras_applications`` and
``from_keras_hub`` take what those libraries built. Whatever does not fit raises ``WeightsMismatchError``, which lists
everything missing, unexpected or of another shape, and leaves the model as it was. Nothing is downloaded unless an
address is given, and nothing is unpickled.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# name -> module it lives in; loaded when first used, so that `weights.names` needs no Keras
_NAMES = {
    "WeightsMismatchError": "resnet_backbones.errors",
    "from_keras_applications": "resnet_backbones.weights.libraries",
    "from_keras_hub": "resnet_backbones.weights.libraries",
    "from_timm": "resnet_backbones.weights.libraries",
    "from_torchvision": "resnet_backbones.weights.libraries",
    "load": "resnet_backbones.weights.files",
    "register_names": "resnet_backbones.weights.names",
    "save": "resnet_backbones.weights.files",
}

__all__ = [
    "WeightsMismatchError",
    "from_keras_applications",
    "from_keras_hub",
    "from_timm",
    "from_torchvision",
    "load",
    "register_names",
    "save",
]

if TYPE_CHECKING:
    from resnet_backbones.errors import WeightsMismatchError
    from resnet_backbones.weights.files import load, save
    from resnet_backbones.weights.libraries import from_keras_applications, from_keras_hub, from_timm, from_torchvision
    from resnet_backbones.weights.names import register_names


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value  # next time without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
