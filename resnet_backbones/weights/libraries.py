"""Weights of models that other libraries built: timm, torchvision, keras.applications, KerasHub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_backbones.backbones.model import Backbone
from resnet_backbones.errors import WeightsMismatchError
from resnet_backbones.weights.names import find_names
from resnet_backbones.weights.sources import load_arrays
from resnet_backbones.weights.targets import Target, find_target, named_layers, slots_of
from resnet_backbones.weights.transfer import warn_of_pixels


def from_timm(
    target: Any,
    state_dict: Mapping[str, Any],
    *,
    skip_mismatch: bool = False,
    backbone: str | Backbone | None = None,
    prefix: str | None = None,
) -> None:
    """Sets weights from the ``state_dict`` of timm's model of the same name.

    Args:
        target: a backbone, e.g. ``create_backbone("resnet50d")``, or a classifier round one (KerasCV's
            ``ImageClassifier``, ``keras.Sequential([backbone, pooling, Dense])``), whose dense layer is then set
            too. With other than 3 input channels the stem is adapted: summed for 1, else repeated, as timm does.
        state_dict: name -> array: numpy arrays, torch tensors, or what safetensors loads.
        skip_mismatch: loads what fits and warns, naming the rest.
        backbone: which backbone of a model that holds several, by name or itself; it alone is set.
        prefix: where a checkpoint holds the network several times, the beginning of the names that are meant, or a
            part of it, e.g. ``"teacher"``. Wrappers, prefixes, and what else is in a checkpoint are found without it.

    Raises:
        TypeError: ``target`` holds no backbone.
        ValueError: timm has no such family.
        WeightsMismatchError: the two do not fit; ``target`` keeps its weights.

    Example:
        >>> backbone = create_backbone("resnet50d")
        >>> weights.from_timm(backbone, timm.create_model("resnet50d", pretrained=True).state_dict())

    Source: Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models
    """
    found, where = find_target(target, backbone), "the timm state_dict"
    load_arrays(found, "timm", state_dict, where=where, skip_mismatch=skip_mismatch, prefix=prefix)
    warn_of_pixels(found, None, where)


def from_torchvision(
    target: Any,
    state_dict: Mapping[str, Any],
    *,
    skip_mismatch: bool = False,
    backbone: str | Backbone | None = None,
    prefix: str | None = None,
) -> None:
    """Sets weights from the ``state_dict`` of torchvision's model of the same architecture.

    Args:
        target: a backbone or a classifier round one, as in :func:`from_timm`.
        state_dict: name -> array.
        skip_mismatch: loads what fits and warns, naming the rest.
        backbone: which backbone of a model that holds several, by name or itself; it alone is set.
        prefix: where a checkpoint holds the network several times, the beginning of the names that are meant, or a
            part of it, e.g. ``"teacher"``. Wrappers, prefixes, and what else is in a checkpoint are found without it.

    Raises:
        TypeError: ``target`` holds no backbone.
        ValueError: torchvision has no such family.
        WeightsMismatchError: the two do not fit; ``target`` keeps its weights.

    Example:
        >>> backbone = create_backbone("resnet50")
        >>> weights.from_torchvision(backbone, torchvision.models.resnet50(weights="DEFAULT").state_dict())
    """
    found, where = find_target(target, backbone), "the torchvision state_dict"
    load_arrays(found, "torchvision", state_dict, where=where, skip_mismatch=skip_mismatch, prefix=prefix)
    warn_of_pixels(found, None, where)


def from_keras_applications(
    target: Any, model: Any, *, skip_mismatch: bool = False, backbone: str | Backbone | None = None
) -> None:
    """Sets weights from a model of ``keras.applications``.

    Their v1 ResNets have biases in their convolutions. ``keras_resnet50`` has them too; a backbone without them
    (``resnet50`` with their strides and epsilon) takes them in the moving mean, which gives the same outputs.

    Args:
        target: a backbone with their strides, padding and epsilon, e.g. ``create_backbone("keras_resnet50")``, or a
            classifier round one, as in :func:`from_timm`.
        model: the Keras model; without its classifier (``include_top=False``) unless ``target`` is one.
        skip_mismatch: loads what fits and warns, naming the rest; strides and epsilons must agree all the same.
        backbone: which backbone of a model that holds several, by name or itself; it alone is set.

    Raises:
        TypeError: ``target`` holds no backbone.
        ValueError: their names for such a family are not known.
        WeightsMismatchError: shapes, strides or epsilons differ; ``target`` keeps its weights.

    Example:
        >>> backbone = create_backbone("keras_resnet50")
        >>> weights.from_keras_applications(backbone, keras.applications.ResNet50(weights="imagenet"))
    """
    found = find_target(target, backbone)
    from_keras_model(found, "keras_applications", model, skip_mismatch)
    warn_of_pixels(found, None, repr(model.name))


def from_keras_hub(
    target: Any, model: Any, *, skip_mismatch: bool = False, backbone: str | Backbone | None = None
) -> None:
    """Sets weights from a KerasHub backbone or image classifier.

    Args:
        target: a backbone or a classifier round one, as in :func:`from_timm`.
        model: e.g. ``keras_hub.models.ResNetBackbone`` or ``ResNetImageClassifier``, also under tf_keras.
        skip_mismatch: loads what fits and warns, naming the rest; strides and epsilons must agree all the same.
        backbone: which backbone of a model that holds several, by name or itself; it alone is set.

    Raises:
        TypeError: ``target`` holds no backbone.
        ValueError: their names for such a family are not known.
        WeightsMismatchError: shapes, strides or epsilons differ; ``target`` keeps its weights.

    Example:
        >>> backbone = create_backbone("resnet50")
        >>> weights.from_keras_hub(backbone, keras_hub.models.Backbone.from_preset("resnet_50_imagenet"))
    """
    found = find_target(target, backbone)
    from_keras_model(found, "keras_hub", model, skip_mismatch)
    warn_of_pixels(found, None, repr(model.name))


def arrays_of(model: Any) -> dict[str, np.ndarray]:
    """``"layer.weight"`` -> array, of a model of either Keras."""
    return {slot.name: slot.value for slot in slots_of(model)}


def from_keras_model(target: Target, source: str, model: Any, skip_mismatch: bool = False) -> None:
    """Sets weights from a Keras model whose layers have the names of ``source``."""
    _check_hyperparameters(target, source, model)
    where = f"{model.name!r} of {source.replace('keras_hub', 'KerasHub').replace('_', '.')}"
    load_arrays(target, source, arrays_of(model), where=where, skip_mismatch=skip_mismatch)


def _check_hyperparameters(target: Target, source: str, model: Any) -> None:
    """What shapes do not show: strides and epsilons. A dilated backbone strides less, and may."""
    backbone, spec = target.backbone, target.backbone.spec
    name_of, _ = find_names(source, spec)
    theirs = named_layers(model)
    attributes = ("epsilon",) if spec is not None and spec.output_stride < 32 else ("epsilon", "strides")
    wrong = []
    for name, layer in named_layers(backbone).items():
        other = theirs.get(name_of(name, spec))
        if other is None:
            continue
        for attribute in attributes:
            mine, value = getattr(layer, attribute, None), getattr(other, attribute, None)
            if mine != value:
                wrong.append(f"{name} has {attribute} {mine}, {other.name} has {value}")
    if wrong:
        more = f"\n    ... and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise WeightsMismatchError(
            f"backbone {backbone.name!r} computes something else than {model.name!r}, so its weights would give other "
            "features. keras.applications' own ResNets are keras_resnet50, keras_resnet50v2 ... in the catalogue; else "
            "create the backbone with stride_in_1x1 and bn_epsilon as they are there.\n"
            f"  {len(wrong)} differences:\n    " + "\n    ".join(wrong[:10]) + more
        )
