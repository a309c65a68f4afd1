"""Warns of images in other units than a model's: 0 to 1 where it takes 0 to 255, and the reverse."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from resnet_backbones.backbones.model import Backbone
from resnet_backbones.keras_compat import keras, leaf_and_nested_layers
from resnet_backbones.quantization.export_forms import scale_and_offset

_OF_BYTES = 1 / 50  # preprocessing with smaller scales is made for images of 0 to 255
_OF_ONES = 50  # and with larger ones for images of 0 to 1
_LARGEST = 50  # that preprocessing makes of images of the units it is made for, at scales between


def warn_of_other_units(model: Any, images: Any, name: str) -> None:
    """Warn if a batch does not look like what the model's preprocessing is made for.

    Whole numbers are never taken for normalised: a dark picture has small ones.

    Args:
        model: a Keras model.
        images: a batch; anything but one tensor of images is passed over.
        name: of the data, for the message, e.g. ``"The calibration data"``.
    """
    if isinstance(images, (dict, tuple, list)) or len(images.shape) != 4:
        return
    values = np.asarray(images, np.float64)
    if not values.size:
        return
    low, high, whole = values.min(), values.max(), bool((values == np.round(values)).all())
    for scale, offset in _preprocessings(model):
        if scale.max() <= _OF_BYTES and not whole and (high <= 2 or (low < 0 and max(high, -low) <= 10)):
            warnings.warn(
                f"{name} is between {low:.3g} and {high:.3g}, so it looks normalised already, and the model "
                "normalises images of 0 to 255 itself: it would happen twice, and every value be wrong. Give images of "
                "0 to 255, or create the backbone with preprocessing=None.",
                stacklevel=4,
            )
            return
        bound = _LARGEST if scale.max() < _OF_ONES else 2 * scale.max()
        made = max(np.abs(low * scale + offset).max(), np.abs(high * scale + offset).max())
        if not np.allclose(scale, 1) and made > bound:
            warnings.warn(
                f"{name} is between {low:.3g} and {high:.3g}, of which the model's own preprocessing makes values up "
                f"to {made:.3g}: it looks to be in other units than those the model takes, such as 0 to 255 in place "
                "of 0 to 1. Give images as in training.",
                stacklevel=4,
            )
            return


def _preprocessings(model: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scale and offset of what is done to images first: by the model's first layer, and by the backbones in it."""
    found = [] if (first := _first_layer(model)) is None else [scale_and_offset(first)]
    for part in (model, *leaf_and_nested_layers(model)):
        wanted = getattr(part.spec, "preprocessing", None) if isinstance(part, Backbone) else None
        if wanted is not None:
            found.append((wanted.scale, wanted.offset))
    return [(np.abs(np.asarray(scale, np.float64)), np.asarray(offset, np.float64)) for scale, offset in found]


def _first_layer(model: Any) -> Any:
    """The layer that rescales what the model takes; ``None`` if there is none, or it is not known."""
    layers = [layer for layer in getattr(model, "layers", ()) if not isinstance(layer, keras.layers.InputLayer)]
    if not layers or isinstance(layers[0], keras.Model):
        return _first_layer(layers[0]) if layers else None
    rescales = isinstance(layers[0], keras.layers.Rescaling) or (
        isinstance(layers[0], keras.layers.Normalization) and layers[0].mean is not None and not layers[0].invert
    )
    return layers[0] if rescales else None
