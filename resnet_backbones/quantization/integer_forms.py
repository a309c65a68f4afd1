"""What LiteRT's kernels for int16 compute otherwise than Keras does, by more than the steps of 16 bits hide.

Read off ``reference_ops`` of LiteRT 2.3, and compared with it for every integer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import keras

_FRACTIONS = 1024  # in so many parts of a pixel LiteRT tells where between pixels a point is


def in_fewer_bits(values: Any, read: Any, given: Any) -> Any:
    """Rounds values of 16 bits to 8 as LiteRT does: to 64ths or so of a step first, which moves one in 250 of them.

    Args:
        values: a tensor, in steps of ``read``; gradients pass through.
        read: quantizer of 16 bits.
        given: quantizer of 8 bits, which still has to clip them.
    """
    exact, step = tf.cast(values, tf.float32), given.step()
    exponent = tf.floor(tf.math.log(read.step() / step) / np.log(2.0)) + 1.0
    parts = _away_from_zero(exact / (step * 2.0**exponent))
    rounded = _away_from_zero(parts * 2.0**exponent) * step
    return values + tf.stop_gradient(tf.cast(rounded, values.dtype) - values)


def resized_bilinearly(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    """What LiteRT computes of images of 16 bits: distances of rows and of columns are whole 1024ths of a pixel.

    Args:
        layer: any layer.
        call: what it computes by itself.

    Returns:
        The same call, but for bilinear resizing.
    """
    if not isinstance(layer, (keras.layers.UpSampling2D, keras.layers.Resizing)) or layer.interpolation != "bilinear":
        return call

    def resized(images, *args, **more):
        given = images.shape[1:3]
        if None in given:
            return call(images, *args, **more)
        resizes = isinstance(layer, keras.layers.Resizing)
        size = (
            (layer.height, layer.width) if resizes else [n * times for n, times in zip(given, layer.size, strict=True)]
        )
        rows, columns = (tf.constant(_weights(*ends), images.dtype) for ends in zip(given, size, strict=True))
        return tf.einsum("jw,biwc->bijc", columns, tf.einsum("ih,bhwc->biwc", rows, images))

    return resized


def _weights(of: int, to: int) -> np.ndarray:
    """What each of the rows read counts in each of those made: (to, of)."""
    distance = (_FRACTIONS * of + to // 2) // to
    places = np.arange(to) * distance + distance // 2 - _FRACTIONS // 2
    lower = np.maximum(np.trunc(places / _FRACTIONS).astype(int), 0)
    upper = np.minimum(np.trunc((places + _FRACTIONS - 1) / _FRACTIONS).astype(int), of - 1)
    weights = np.zeros((to, of))
    np.add.at(weights, (np.arange(to), lower), _FRACTIONS - (places - _FRACTIONS * lower))
    np.add.at(weights, (np.arange(to), upper), places - _FRACTIONS * lower)
    return weights / _FRACTIONS


def _away_from_zero(values: Any) -> Any:
    return tf.sign(values) * tf.floor(tf.abs(values) + 0.5)
