"""Weights from keras.applications' ResNets (v1)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from resnet_backbones.backbone import Backbone
from resnet_backbones.errors import WeightsMismatchError
from resnet_backbones.weights.transfer import assign, weighted_layers

_BLOCK_LAYER = re.compile(r"stage(\d+)_block(\d+)_(?:(shortcut_)?(conv|bn)(\d*))")
_RECIPE = 'create_backbone("resnet50", stride_in_1x1=True, bn_epsilon=1.001e-5)'


def from_keras_applications(backbone: Backbone, model: Any) -> None:
    """Sets a backbone's weights from ``keras.applications.ResNet50``, ``ResNet101`` or ``ResNet152``.

    Their convolutions have biases and ours have none: batch norm subtracts the mean right after, so the bias goes into
    the moving mean, which gives the same outputs.

    Args:
        backbone: of the same depth, with the strides and epsilon of those models:
            ``create_backbone("resnet50", stride_in_1x1=True, bn_epsilon=1.001e-5)``.
        model: the Keras model; with or without its classifier, which is left out.

    Raises:
        WeightsMismatchError: shapes, strides or epsilons differ; the backbone keeps its weights.

    Example:
        >>> backbone = create_backbone("resnet50", stride_in_1x1=True, bn_epsilon=1.001e-5)
        >>> weights.from_keras_applications(backbone, keras.applications.ResNet50(weights="imagenet"))
    """
    ours, theirs = weighted_layers(backbone), weighted_layers(model)
    names = {name: _their_layer(name) for name in ours}
    _check_hyperparameters(backbone, ours, theirs, names)
    source = {
        f"{name}.{weight}": np.asarray(getattr(layer, weight))
        for name, (layer, weights) in theirs.items()
        for weight in weights
        if not name.startswith("predictions")
    }
    _fold_biases(source)
    keys = {(name, weight): f"{names[name]}.{weight}" for name, (_, weights) in ours.items() for weight in weights}
    assign(backbone, source, keys, where=f"{model.name!r} of keras.applications")


def _their_layer(layer: str) -> str:
    """Their name of one of our layers: ``stage2_block1_conv3`` -> ``conv3_block1_3_conv``."""
    if match := _BLOCK_LAYER.fullmatch(layer):
        stage, block, shortcut, kind, number = match.groups()
        return f"conv{int(stage) + 1}_block{block}_{0 if shortcut else number}_{kind}"
    return {"stem_conv1": "conv1_conv", "stem_bn1": "conv1_bn"}.get(layer, layer)


def _fold_biases(source: dict[str, np.ndarray]) -> None:
    """Takes each convolution's bias out of ``source`` and subtracts it from the moving mean after it."""
    for key in [key for key in source if key.endswith("_conv.bias")]:
        mean = key.replace("_conv.bias", "_bn.moving_mean")
        if mean in source:
            source[mean] = source[mean] - source.pop(key)


def _check_hyperparameters(backbone: Backbone, ours: Any, theirs: Any, names: dict[str, str]) -> None:
    """What shapes do not show: strides and epsilons."""
    wrong = []
    for name, (layer, _) in ours.items():
        if names[name] not in theirs:
            continue
        other = theirs[names[name]][0]
        for attribute in ("strides", "epsilon"):
            mine, other_value = getattr(layer, attribute, None), getattr(other, attribute, None)
            if mine != other_value:
                wrong.append(f"{name} has {attribute} {mine}, {other.name} has {other_value}")
    if wrong:
        raise WeightsMismatchError(
            f"backbone {backbone.name!r} computes something else than keras.applications' model, so its weights would "
            f"give other features. For ResNet50 take {_RECIPE}. Differences:\n    " + "\n    ".join(wrong[:20])
        )
