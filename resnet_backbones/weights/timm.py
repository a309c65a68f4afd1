"""Weights from timm's ResNets, and from torchvision's, whose names are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_backbones.backbone import Backbone
from resnet_backbones.weights.transfer import assign, weighted_layers

_TORCH_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_BLOCK_LAYER = re.compile(r"stage(\d+)_block(\d+)_(?:(shortcut_)?(conv|bn)(\d*))")
_STEM_LAYER = re.compile(r"stem_(conv|bn)(\d)")


def from_timm(backbone: Backbone, state_dict: Mapping[str, Any]) -> None:
    """Sets a backbone's weights from the ``state_dict`` of timm's (or torchvision's) model of the same name.

    Args:
        backbone: a ResNet of this library, e.g. ``create_backbone("resnet50d")``, with the default ``bn_epsilon``
            and strides; timm has no v1 strides.
        state_dict: name -> array: numpy arrays, torch tensors, or what safetensors loads. A classifier (``fc.*``) is
            left out.

    Raises:
        WeightsMismatchError: the two do not fit; the backbone keeps its weights.

    Example:
        >>> backbone = create_backbone("resnet50d")
        >>> weights.from_timm(backbone, timm.create_model("resnet50d", pretrained=True).state_dict())
    """
    deep = "stem_conv3" in weighted_layers(backbone)
    averaged = backbone.spec is not None and backbone.spec.shortcut == "avg_pool"
    keys = {
        (layer, weight): f"{_module(layer, deep, averaged)}.{_TORCH_NAMES[weight]}"
        for layer, (_, weights) in weighted_layers(backbone).items()
        for weight in weights
    }
    # A classifier is not ours, and Keras' batch norm counts no batches.
    names = [key for key in state_dict if not key.startswith("fc.") and not key.endswith("num_batches_tracked")]
    assign(backbone, {key: _keras_order(_array(state_dict[key])) for key in names}, keys, where="the timm state_dict")


def _module(layer: str, deep: bool, averaged: bool) -> str:
    """The timm module of one of our layers: ``stage2_block1_conv3`` -> ``layer2.0.conv3``."""
    if match := _STEM_LAYER.fullmatch(layer):
        if not deep:
            return f"{match[1]}1"
        # conv1 is a sequence: conv, bn, act, conv, bn, act, conv; the third batch norm stands after it.
        return "bn1" if layer == "stem_bn3" else f"conv1.{3 * (int(match[2]) - 1) + (match[1] == 'bn')}"
    if match := _BLOCK_LAYER.fullmatch(layer):
        stage, block, shortcut, kind, number = match.groups()
        module = f"layer{stage}.{int(block) - 1}."
        if shortcut:
            # The pooling stands first in timm's average-pooled shortcut, also where it pools nothing.
            return f"{module}downsample.{int(averaged) + (kind == 'bn')}"
        return f"{module}{kind}{number}"
    return layer  # a block of somebody else's: expected under its own name, and listed if it is not there


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a torch tensor; half precision types go through float32
        value = value.detach().cpu().float().numpy()
    return np.asarray(value)


def _keras_order(value: np.ndarray) -> np.ndarray:
    """Kernels from (out, in, height, width) to (height, width, in, out)."""
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
