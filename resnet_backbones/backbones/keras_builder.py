"""The parts of backbones as Keras layers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from resnet_backbones.backbones.builder import Pads, Parts
from resnet_backbones.keras_compat import activation_function, keras
from resnet_backbones.layers.batch_norm import BatchNormalization
from resnet_backbones.layers.feature_maps import BlurPool2D, ChannelMax, ChannelMean, ChannelPad, ChannelSlice

layers = keras.layers


class KerasParts(Parts):
    """Adds Keras layers to a functional graph.

    Args:
        spec: the backbone's spec.
        dtype: dtype policy of every layer, by name; ``None`` for the global one.

    Attributes:
        layers_added: how many layers it has added so far.
    """

    def __init__(self, spec: Any, dtype: str | None = None) -> None:
        super().__init__(spec)
        self.dtype = dtype
        self.layers_added = 0

    def add(self, layer_class: type, x: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._make(layer_class, name, *args, **kwargs)(x)

    def _make(self, layer_class: type, name: str, *args: Any, **kwargs: Any) -> Any:
        self.layers_added += 1
        if _has_data_format(layer_class):  # not the global one: a file is the same network under either
            kwargs.setdefault("data_format", "channels_last")
        return layer_class(*args, name=name, dtype=self.dtype, **kwargs)

    def conv2d(
        self,
        x: Any,
        name: str,
        filters: int,
        kernel: Any,
        *,
        strides=1,
        padding="same",
        dilation=1,
        groups=1,
        bias=False,
    ) -> Any:
        options = {"strides": strides, "padding": padding, "dilation_rate": dilation, "groups": groups}
        return self.add(layers.Conv2D, x, name, filters, kernel, use_bias=bias, **options, **self._kernel())

    def shared_conv2d(
        self, tensors: Sequence[Any], name: str, filters: int, kernel: int, *, bias: bool = False
    ) -> list[Any]:
        options = {"padding": "same", "use_bias": bias, **self._kernel()}
        layer = self._make(layers.Conv2D, name, filters, kernel, **options)
        return [layer(x) for x in tensors]

    def depthwise2d(
        self, x: Any, name: str, kernel: int, *, strides: int = 1, padding: str = "same", dilation: int = 1
    ) -> Any:
        options = {"strides": strides, "padding": padding, "dilation_rate": dilation, "use_bias": False}
        return self.add(layers.DepthwiseConv2D, x, name, kernel, **options, **self._kernel("depthwise"))

    def batch_norm(self, x: Any, name: str, *, zero: bool = False) -> Any:
        options = {"momentum": self.spec.bn_momentum, "epsilon": self.spec.bn_epsilon}
        return self.add(BatchNormalization, x, name, gamma_initializer="zeros" if zero else "ones", **options)

    def activation(self, x: Any, name: str, activation: str) -> Any:
        return self.add(layers.Activation, x, name, activation_function(activation))

    def pad(self, x: Any, name: str, pads: Pads) -> Any:
        return self.add(layers.ZeroPadding2D, x, name, pads)

    def max_pool(self, x: Any, name: str, size: int, strides: int, padding: str = "valid") -> Any:
        return self.add(layers.MaxPooling2D, x, name, size, strides, padding=padding)

    def avg_pool(self, x: Any, name: str, size: int, strides: int, padding: str = "valid") -> Any:
        return self.add(layers.AveragePooling2D, x, name, size, strides, padding=padding)

    def blur_pool(self, x: Any, name: str, strides: int) -> Any:
        return self.add(BlurPool2D, x, name, strides)

    def global_pool(self, x: Any, name: str, kind: str = "avg") -> Any:
        pooling = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[kind]
        return self.add(pooling, x, name, keepdims=True)

    def channel_pool(self, x: Any, name: str, kind: str) -> Any:
        return self.add({"avg": ChannelMean, "max": ChannelMax}[kind], x, name)

    def channel_slice(self, x: Any, name: str, start: int, stop: int) -> Any:
        return self.add(ChannelSlice, x, name, start, stop)

    def channel_pad(self, x: Any, name: str, before: int, after: int) -> Any:
        return self.add(ChannelPad, x, name, before, after)

    def reshape(self, x: Any, name: str, shape: tuple[int, int, int]) -> Any:
        return self.add(layers.Reshape, x, name, shape)

    def sum(self, tensors: Sequence[Any], name: str) -> Any:
        return self.add(layers.Add, list(tensors), name)

    def multiply(self, x: Any, gate: Any, name: str) -> Any:
        return self.add(layers.Multiply, [x, gate], name)

    def concat(self, tensors: Sequence[Any], name: str) -> Any:
        return self.add(layers.Concatenate, list(tensors), name)

    def drop_path(self, x: Any, name: str, rate: float) -> Any:
        return self.add(layers.Dropout, x, name, rate, noise_shape=(None, 1, 1, 1))

    def rescale(self, x: Any, name: str, scale: Any, offset: Any) -> Any:
        # Keras 3 turns a list of numbers, one for each channel, to the channels of the global image_data_format.
        scale, offset = ([[value]] if isinstance(value, list) else value for value in (scale, offset))
        return self.add(layers.Rescaling, x, name, scale, offset)

    def layer_name(self, x: Any) -> str:
        return x._keras_history[0].name

    def _kernel(self, kind: str = "kernel") -> dict[str, Any]:
        """A kernel's initializer, uniform with He's variance (https://arxiv.org/abs/1502.01852), and its penalty.

        Uniform, since normal numbers took a third of the time to build.
        """
        penalty = self.spec.kernel_regularizer
        return {
            f"{kind}_initializer": keras.initializers.VarianceScaling(2.0, "fan_out", "uniform"),
            f"{kind}_regularizer": penalty and keras.regularizers.L1L2(penalty.l1, penalty.l2),
        }


@functools.cache
def _has_data_format(layer_class: type) -> bool:
    return "data_format" in inspect.signature(layer_class).parameters
