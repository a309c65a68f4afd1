"""Convolutions that TensorFlow or Keras writes as more than one operation, as one each.

* A dilated one is three operations: pixels moved into the batch, a convolution, pixels moved back. LiteRT's converter
  puts them together again only where the batch is a constant; else it leaves the convolution, and what stands behind
  it, in float.
* A grouped one is a function of its own, compiled for CPUs. A converter leaves it a function, which ONNX has no form
  of, or names what is in it after nothing in the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from resnet_backbones.keras_api import DEPTHWISE_KERNEL, keras
from resnet_backbones.quantization.composites import dilated_depthwise
from resnet_backbones.quantization.hooks import item_replaced, own_calls_replaced

_OPERATION, _COMPILED = "convolution_op", "_jit_compiled_convolution_op"  # the second: of tf_keras, if in groups


@contextlib.contextmanager
def convolutions_in_one_operation(model: Any) -> Iterator[None]:
    """Within it, the model's dilated and grouped convolutions are traced as a single operation.

    Args:
        model: a built model.
    """
    depthwise = [(layer, _depthwise(layer)) for layer in filter(_is_dilated_depthwise, model._flatten_layers())]
    with own_calls_replaced(depthwise), contextlib.ExitStack() as replaced:
        for layer in filter(_is_several, model._flatten_layers()):
            for name in (_OPERATION, *([_COMPILED] if hasattr(layer, _COMPILED) else [])):
                replaced.enter_context(item_replaced(layer.__dict__, name, _convolution(layer)))
        yield


def _is_several(layer: Any) -> bool:
    kind = keras.layers.Conv2D
    return (
        isinstance(layer, kind)
        and getattr(type(layer), _OPERATION) is getattr(kind, _OPERATION)  # not a subclass' own
        and layer.data_format == "channels_last"
        and (max(layer.dilation_rate) > 1 or layer.groups > 1)
    )


def _convolution(layer: Any) -> Any:
    def convolution(inputs, kernel):
        kernel = tf.convert_to_tensor(kernel)
        dilations = list(layer.dilation_rate)
        return tf.nn.conv2d(inputs, kernel, list(layer.strides), layer.padding.upper(), dilations=dilations)

    return convolution


def _is_dilated_depthwise(layer: Any) -> bool:
    kind = keras.layers.DepthwiseConv2D
    return (
        isinstance(layer, kind)
        and type(layer).call is kind.call  # not a subclass' own
        and layer.data_format == "channels_last"
        and max(layer.dilation_rate) > 1
        and max(layer.strides) == 1
    )


def _depthwise(layer: Any) -> Any:
    def depthwise(inputs):
        kernel = tf.convert_to_tensor(getattr(layer, DEPTHWISE_KERNEL))
        outputs = dilated_depthwise(inputs, kernel, layer.padding.upper(), layer.dilation_rate)
        if layer.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(layer.bias))
        return outputs if layer.activation is None else layer.activation(outputs)

    return depthwise
