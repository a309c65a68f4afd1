"""``create_backbone``: from a name to a model."""

from __future__ import annotations

import inspect
import os
from typing import Any

from resnet_backbones.backbone import Backbone, SpecBackbone, from_model
from resnet_backbones.registry import BackboneEntry, find_backbone
from resnet_backbones.specs import BackboneSpec


def create_backbone(
    name: str | BackboneSpec,
    *,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    output_stride: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    quantization: str | None = None,
    **overrides: Any,
) -> Backbone:
    """Builds a backbone.

    Args:
        name: a registered name (``list_backbones()``), or a spec.
        input_shape: (height, width, channels); height and width may be ``None``. Quantization for detectors and
            export want them known.
        output_stride: 8, 16 or 32; by default the spec's, 32 for the library's own.
        weights: ``None`` for random weights; or a file, ``"https://..."`` (``#sha256=...`` at its end is checked) or
            ``"hf-hub:owner/name"``: all that :func:`resnet_backbones.weights.load` takes. Nothing is downloaded
            unless an address is given.
        quantization: a scheme, e.g. ``"edge_int8"``: the backbone comes ready for quantization-aware training.
        **overrides: fields of the spec to change, e.g. ``activation="silu"``.

    Returns:
        A :class:`Backbone`, a functional Keras model with ``feature_info``.

    Raises:
        UnknownNameError: no backbone has that name.
        TypeError: an override is no field of the spec.
        ValueError: a value is not allowed, or the weights do not fit.
        OSError: there are no such weights.

    Example:
        >>> backbone = create_backbone("resnet18", input_shape=(96, 96, 3), drop_path_rate=0.1)
        >>> backbone.feature_info["P3"].channels
        128
    """
    if output_stride is not None:
        overrides["output_stride"] = output_stride
    if isinstance(name, BackboneSpec):
        backbone = SpecBackbone(name.replace(**overrides), input_shape)
    else:
        backbone = _from_entry(find_backbone(name), input_shape, overrides)
    if weights is not None:
        from resnet_backbones.weights import load

        load(backbone, weights)
    if quantization is not None:
        from resnet_backbones.quantization import quantize_aware

        quantize_aware(backbone, quantization)
    return backbone


def _from_entry(entry: BackboneEntry, input_shape: Any, overrides: dict[str, Any]) -> Backbone:
    source: Any = entry.source
    if entry.builds_model:
        accepted = inspect.signature(source).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
            for override in overrides:
                if override not in accepted:
                    raise TypeError(
                        f"backbone {entry.name!r} is built by a function of {entry.owner} that takes no {override!r}; "
                        f"it takes {', '.join(accepted)}."
                    )
        return _as_backbone(entry, source(input_shape=input_shape, **overrides))
    made = source() if callable(source) else source
    if isinstance(made, BackboneSpec):
        return SpecBackbone(made.replace(**overrides), input_shape, name=entry.name)
    if overrides:
        raise TypeError(
            f"backbone {entry.name!r} is a finished model of {entry.owner}: it takes no {', '.join(overrides)}. "
            "A function with an input_shape parameter may take more."
        )
    return _as_backbone(entry, made)


def _as_backbone(entry: BackboneEntry, made: Any) -> Backbone:
    if isinstance(made, Backbone):
        return made
    if isinstance(made, tuple) and len(made) == 2:
        return from_model(*made)
    raise TypeError(
        f"the function of {entry.owner} registered as {entry.name!r} returned {type(made).__name__}; it must return a "
        "spec, from_model(model, levels) or (model, levels)."
    )
