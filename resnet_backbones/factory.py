"""``create_backbone``: from a name to a model."""

from __future__ import annotations

import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

from resnet_backbones.backbones.model import Backbone, SpecBackbone, from_model
from resnet_backbones.backbones.registry import BackboneEntry, find_backbone
from resnet_backbones.backbones.spec import BackboneSpec
from resnet_backbones.keras_compat import rename

# What other libraries' functions of this kind take for a classifier.
_CLASSIFIER_WORDS = {"num_classes", "classes", "include_top", "nb_classes"}


def create_backbone(
    name: str | BackboneSpec,
    *,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    output_stride: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    preprocessing: Any = "auto",
    quantization: str | None = None,
    model_name: str | None = None,
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
        pretrained: takes the first published weights that the registry names (``backbone_info(name).weights``), at a
            fixed revision, and says their licence.
        preprocessing: what the backbone does to its images first, as in the spec. ``"auto"``: what the spec says; with
            weights of a known source, or a ``.safetensors`` file of this library, what these want of images of 0 to
            255, and one line on stderr says so. ``None``: nothing; images come normalised. Normalise in one place:
            not in the data as well.
        quantization: a scheme, e.g. ``"edge_int8"``: the backbone comes ready for quantization-aware training.
        model_name: the Keras model's name, by default the backbone's. One model can call two backbones of one kind if
            their names differ.
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
    if asked := _CLASSIFIER_WORDS & set(overrides):
        raise TypeError(
            f"create_backbone builds no classifier, so it takes no {', '.join(sorted(asked))}: build one on the "
            "backbone with adapters.keras_cv.image_classifier(create_backbone(name, input_shape=...), num_classes=10)."
        )
    if model_name is not None and (not isinstance(model_name, str) or not re.fullmatch(r"[\w.-]+", model_name)):
        raise ValueError(f"model_name must be letters, digits, '_', '.' and '-', e.g. 'left_eye'; got {model_name!r}.")
    if output_stride is not None:
        overrides["output_stride"] = output_stride
    entry = None if isinstance(name, BackboneSpec) else find_backbone(name)
    if pretrained:
        weights = _pretrained(entry, weights)
    automatic = isinstance(preprocessing, str) and preprocessing == "auto"
    if not automatic:
        overrides["preprocessing"] = preprocessing

    def adjusted(spec: BackboneSpec) -> BackboneSpec:
        spec = spec.replace(**overrides)
        if weights is None or not automatic or spec.preprocessing is not None:
            return spec
        return _with_preprocessing_of(weights, spec, input_shape)

    if entry is None:
        backbone: Backbone = SpecBackbone(adjusted(name), input_shape)  # type: ignore[arg-type]
    else:
        backbone = _from_entry(entry, input_shape, overrides, adjusted)
    if model_name is not None:
        rename(backbone, model_name)
    if not automatic:
        backbone.pixels = "chosen"
    if weights is not None:
        from resnet_backbones.weights import load

        load(backbone, weights)
    if quantization is not None:
        from resnet_backbones.quantization import quantize_aware

        quantize_aware(backbone, quantization)
    return backbone


def _pretrained(entry: BackboneEntry | None, weights: Any) -> str:
    """The address of the weights that ``pretrained=True`` takes."""
    from resnet_backbones.backbones.catalogue import licence_of
    from resnet_backbones.weights.places import first_source, source_of

    if weights is not None or entry is None:
        raise TypeError(
            "pretrained=True takes the published weights of a backbone given by name: leave out weights=, and give a "
            "name, not a spec."
        )
    source = first_source(entry.name, entry.weights)
    sys.stderr.write(f"{entry.name}: weights {source}, licence: {licence_of(source_of(source))}\n")
    return source


def _with_preprocessing_of(weights: Any, spec: BackboneSpec, input_shape: Any) -> BackboneSpec:
    """The spec with what the weights want of images, where that is known."""
    from resnet_backbones.weights.places import pixels_for

    pixels = pixels_for(weights)
    if pixels is None or pixels.preprocessing is None:
        return spec  # loading them warns where nothing is known
    channels = pixels.preprocessing.channels
    if channels is not None and channels != input_shape[-1]:
        warnings.warn(
            f"{os.fspath(weights)} wants images of {channels} channels with preprocessing={pixels.name}; for "
            f"{input_shape[-1]} there is none, so the backbone takes images as they are. Pass preprocessing= a scale "
            "and offset, or None.",
            stacklevel=4,
        )
        return spec
    sys.stderr.write(
        f"{os.fspath(weights)}: the backbone takes images of 0 to 255 and does preprocessing={pixels.name} itself "
        "(preprocessing=None turns it off).\n"
    )
    return spec.replace(preprocessing=pixels.preprocessing)


def _from_entry(
    entry: BackboneEntry,
    input_shape: Any,
    overrides: dict[str, Any],
    adjusted: Callable[[BackboneSpec], BackboneSpec],
) -> Backbone:
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
        return SpecBackbone(adjusted(made), input_shape, name=entry.name)
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
