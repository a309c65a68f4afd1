"""Convolutions that TensorFlow or Keras writes as more than one operation, as one each.

* A dilated one is three operations: pixels moved into the batch, a convolution, pixels moved back. LiteRT's converter
  puts them together again only where the batch is a constant; else it leaves the convolution, and what stands behind
  it, in float.
* A grouped one is a function of its own, compiled for CPUs. A converter leaves it a function, which ONNX has no form
  of, or names what is in it after nothing in the model.
* LiteRT has no dilated transposed ones. They are those of a larger kernel, with zeros between its rows and columns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import DEPTHWISE_KERNEL, float32_variable, keras
from resnet_backbones.quantization import context
from resnet_backbones.quantization.composites import dilated_depthwise
from resnet_backbones.quantization.hooks import hook_of, own_call, own_calls_replaced
from resnet_backbones.quantization.interception import called_with
from resnet_backbones.quantization.kernel_quantizer import read

_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_OPERATION, _COMPILED = "convolution_op", "_jit_compiled_convolution_op"  # the second: of tf_keras, if in groups


@contextlib.contextmanager
def convolutions_in_one_operation(model: Any) -> Iterator[None]:
    """Within it, the model's dilated and grouped convolutions are traced as a single operation.

    Args:
        model: a built model.
    """
    forms = (
        (_is_dilated_depthwise, lambda layer: _with_bias(_depthwise)),
        (_is_several_of_other_rank, lambda layer: _with_bias(_of_other_rank)),
        (_is_several, lambda layer: _in_one_operation(own_call(layer))),
    )
    layers = model._flatten_layers()
    with own_calls_replaced((layer, form(layer)) for layer in layers for fits, form in forms if fits(layer)):
        yield


@contextlib.contextmanager
def dilated_transposes_spread(model: Any) -> Iterator[None]:
    """Within it, the model's dilated transposed convolutions are traced without dilation, with spread kernels.

    Args:
        model: a built model.
    """
    kernels, calls = {}, []
    for layer in filter(_is_dilated_transpose, model._flatten_layers()):
        name = "_kernel" if "_kernel" in layer.__dict__ else "kernel"
        kernel, found = spread_kernel(layer, layer.__dict__[name]), hook_of(layer)
        attributes = {"dilation_rate": (1,) * len(layer.dilation_rate), "kernel_size": kernel.shape[:-2]}
        if found is not None and name in found.kernels:
            kernels[id(found.kernels[name][0])] = kernel
        else:
            attributes[name] = kernel
        calls.append((layer, _with_attributes(own_call(layer), attributes)))
    with context.using(kernels=kernels), own_calls_replaced(calls):
        yield


def _with_attributes(own: Any, attributes: dict[str, Any]) -> Any:
    return lambda layer, *args, **kwargs: called_with(layer, attributes, own, *args, **kwargs)


def spread_kernel(layer: Any, variable: Any) -> np.ndarray | Any:
    """The kernel that a LiteRT file holds of a layer.

    Args:
        layer: a weighted layer.
        variable: its kernel.

    Returns:
        Of a dilated transposed convolution an array, with zeros between the rows and columns; else the variable.
    """
    if not _is_dilated_transpose(layer):
        return variable
    kernel = read(float32_variable(variable))
    rates = layer.dilation_rate
    sizes = [(size - 1) * rate + 1 for size, rate in zip(kernel.shape, rates, strict=False)]
    spread = np.zeros((*sizes, *kernel.shape[-2:]), kernel.dtype)
    spread[tuple(slice(None, None, rate) for rate in rates)] = kernel
    return spread


def _is_dilated_transpose(layer: Any) -> bool:
    return (
        isinstance(layer, _TRANSPOSED)
        and any(type(layer).call is kind.call for kind in _TRANSPOSED)  # not a subclass' own
        and max(layer.dilation_rate) > 1
    )


def _is_several(layer: Any) -> bool:
    kind = keras.layers.Conv2D
    return (
        isinstance(layer, kind)
        and getattr(type(layer), _OPERATION) is getattr(kind, _OPERATION)  # not a subclass' own
        and layer.data_format == "channels_last"
        and (max(layer.dilation_rate) > 1 or layer.groups > 1)
    )


def _in_one_operation(own: Any) -> Any:
    def call(layer, *args, **kwargs):
        def convolution(inputs, kernel):
            kernel = tf.convert_to_tensor(kernel)
            dilations = list(layer.dilation_rate)
            return tf.nn.conv2d(inputs, kernel, list(layer.strides), layer.padding.upper(), dilations=dilations)

        return called_with(layer, dict.fromkeys((_OPERATION, _COMPILED), convolution), own, *args, **kwargs)

    return call


def _is_several_of_other_rank(layer: Any) -> bool:
    kinds = (keras.layers.Conv1D, keras.layers.Conv3D)
    return (
        isinstance(layer, kinds)
        and any(type(layer).call is kind.call for kind in kinds)  # not a subclass' own
        and layer.data_format == "channels_last"
        and layer.padding in ("same", "valid")
        and (layer.groups > 1 or (max(layer.dilation_rate) > 1 and isinstance(layer, keras.layers.Conv3D)))
    )


def _of_other_rank(layer: Any, inputs: Any) -> Any:
    """A convolution of sequences or volumes; those of volumes group by group, since no format has them grouped."""
    kernel = tf.convert_to_tensor(layer.kernel)
    if layer.rank == 1:
        return tf.nn.conv1d(inputs, kernel, layer.strides[0], layer.padding.upper(), dilations=layer.dilation_rate)
    options = [1, *layer.strides, 1], layer.padding.upper(), "NDHWC", [1, *layer.dilation_rate, 1]
    groups = zip(tf.split(inputs, layer.groups, -1), tf.split(kernel, layer.groups, -1), strict=True)
    return tf.concat([tf.nn.conv3d(values, part, *options) for values, part in groups], -1)


def _is_dilated_depthwise(layer: Any) -> bool:
    kind = keras.layers.DepthwiseConv2D
    return (
        isinstance(layer, kind)
        and type(layer).call is kind.call  # not a subclass' own
        and layer.data_format == "channels_last"
        and max(layer.dilation_rate) > 1
        and max(layer.strides) == 1
    )


def _depthwise(layer: Any, inputs: Any) -> Any:
    kernel = tf.convert_to_tensor(getattr(layer, DEPTHWISE_KERNEL))
    return dilated_depthwise(inputs, kernel, layer.padding.upper(), layer.dilation_rate)


def _with_bias(convolve: Any) -> Any:
    def call(layer, inputs):
        outputs = convolve(layer, inputs)
        if layer.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(layer.bias))
        return outputs if layer.activation is None else layer.activation(outputs)

    return call
