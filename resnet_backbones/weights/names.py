"""From our layers' names to those of the libraries that weights come from.

One file a family. For each source it has a function ``(layer, spec) -> name``: where that source keeps the weights
of one of our layers, as a module of torch (``"layer2.0.conv3"``) or a layer of Keras (``"conv3_block1_3_conv"``).
The layer :data:`CLASSIFIER` stands for the dense layer of a classifier round the backbone. The names of the weights
themselves (``weight``, ``running_mean``, ``kernel`` ...) are appended by kind of layer and are no concern of these.

A name that a function does not know (a layer of somebody else's block) it returns unchanged: it is then expected
under its own name and listed as missing if it is not there.

Where names are not enough, a second function, ``prepare(arrays, spec) -> arrays``, changes the source's arrays first:
it may fold, split, rename and drop, all in the source's own names and axis order.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resnet_backbones._util.checks import one_of

#: What a dense layer that classifies is called when a names function is asked for it.
CLASSIFIER = "classifier"

TORCH_SOURCES = ("timm", "torchvision")
KERAS_SOURCES = ("keras_applications", "keras_hub")
SOURCES = TORCH_SOURCES + KERAS_SOURCES
#: This library's own names.
OWN = "resnet_backbones"

NameFunction = Callable[[str, Any], str]
PrepareFunction = Callable[[Mapping[str, Any], Any], Mapping[str, Any]]


@dataclass(frozen=True)
class Names:
    """How one source names the weights of one family.

    Args:
        layer: ``(layer, spec) -> name``, or ``"module:function"``.
        prepare: ``(arrays, spec) -> arrays``, or ``"module:function"``, or ``None``.
    """

    layer: NameFunction | str
    prepare: PrepareFunction | str | None = None


def _names(family: str, layer: str, prepare: str | None = None) -> Names:
    module = f"resnet_backbones.backbones.{family}.weight_names"
    return Names(f"{module}:{layer}", f"{module}:{prepare}" if prepare else None)


# (source, family) -> names. Modules are imported when they are asked for.
_TABLE: dict[tuple[str, str], Names] = {
    ("timm", "darknet"): _names("darknet", "timm"),
    ("keras_hub", "darknet"): _names("darknet", "keras_hub"),
    ("timm", "regnet"): _names("regnet", "timm"),
    ("torchvision", "regnet"): _names("regnet", "torchvision"),
    ("keras_applications", "regnet"): _names("regnet", "keras_applications", "prepare_keras_applications"),
    ("timm", "resnet"): _names("resnet", "timm"),
    ("torchvision", "resnet"): _names("resnet", "torchvision"),
    ("keras_applications", "resnet"): _names("resnet", "keras_applications", "prepare_keras_applications"),
    ("keras_hub", "resnet"): _names("resnet", "keras_hub"),
    ("timm", "mobilenet"): _names("mobilenet", "timm", "prepare_timm"),
    ("torchvision", "mobilenet"): _names("mobilenet", "torchvision", "prepare_torchvision"),
    ("keras_applications", "mobilenet"): _names("mobilenet", "keras_applications", "prepare_keras_applications"),
    ("keras_hub", "mobilenet"): _names("mobilenet", "keras_hub", "prepare_keras_hub"),
}


def register_names(source: str, family: str, layer: NameFunction | str, prepare: Any = None) -> None:
    """Says how ``source`` names the weights of a family of backbones.

    Args:
        source: one of ``SOURCES``.
        family: the spec's ``family``.
        layer: ``(layer, spec) -> name``, or ``"module:function"``, imported when first needed.
        prepare: ``(arrays, spec) -> arrays``, or ``"module:function"``, or ``None``.

    Raises:
        ValueError: there is no such source.

    Example:
        >>> register_names("timm", "my_family", "my_package.names:timm")
    """
    one_of("source", source, SOURCES)
    _TABLE[source, family] = Names(layer, prepare)


def find_names(source: str, spec: Any) -> tuple[NameFunction, PrepareFunction]:
    """The functions ``layer`` and ``prepare`` for backbones of ``spec``.

    Raises:
        ValueError: nobody has said how ``source`` names this family.
    """
    family = getattr(spec, "family", None)
    names = _TABLE.get((source, family)) if isinstance(family, str) else None
    if names is None:
        known = sorted({known_family for known_source, known_family in _TABLE if known_source == source})
        what = "a backbone without a spec (made by from_model)" if spec is None else f"backbones of family {family!r}"
        raise ValueError(
            f"it is not known how {source} names the weights of {what}; it is for {', '.join(known)}. "
            "weights.register_names(source, family, function) says it."
        )
    return _function(names.layer), _function(names.prepare) if names.prepare else lambda arrays, spec: arrays


def sources_of(spec: Any) -> list[str]:
    """The sources whose names for backbones of ``spec`` are known."""
    return [source for source in SOURCES if (source, getattr(spec, "family", None)) in _TABLE]


def _function(function: Any) -> Any:
    if not isinstance(function, str):
        return function
    module, _, attribute = function.partition(":")
    return getattr(importlib.import_module(module), attribute)
