"""Dilated convolutions as one operation each.

TensorFlow writes one as three: pixels moved into the batch, a convolution, pixels moved back. LiteRT's converter puts
them together again only where the batch is a constant; else it leaves the convolution, and what stands behind it, in
float.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from resnet_backbones.keras_api import keras

_OPERATION = "convolution_op"


@contextlib.contextmanager
def dilation_in_one_operation(model: Any) -> Iterator[None]:
    """Within it, the model's dilated convolutions are traced as a single operation. Depthwise ones are not.

    Args:
        model: a built model.
    """
    layers = [layer for layer in model._flatten_layers() if _is_dilated(layer)]
    for layer in layers:
        layer.__dict__[_OPERATION] = _convolution(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.__dict__[_OPERATION]


def _is_dilated(layer: Any) -> bool:
    return type(layer) is keras.layers.Conv2D and max(layer.dilation_rate) > 1 and layer.data_format == "channels_last"


def _convolution(layer: Any) -> Any:
    def convolution(inputs, kernel):
        kernel = tf.convert_to_tensor(kernel)
        dilations = list(layer.dilation_rate)
        return tf.nn.conv2d(inputs, kernel, list(layer.strides), layer.padding.upper(), dilations=dilations)

    return convolution
