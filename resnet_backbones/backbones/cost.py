"""What a backbone costs and offers, told from its spec alone: shapes are followed, nothing is built. Knows no Keras."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from resnet_backbones.backbones.builder import Pads, Parts, build
from resnet_backbones.backbones.spec import INT8_ACTIVATIONS, BackboneSpec


@dataclass(frozen=True)
class Outline:
    """What :func:`outline` tells.

    Args:
        levels: level -> (channels, stride).
        parameters: trainable numbers, without a classifier.
        multiply_accumulates: of the convolutions, for one image.
        activations: the activations used, by name.
        input_shape: (height, width, channels) they were counted at.
        output_channels: channels of the last feature map.
    """

    levels: dict[str, tuple[int, int]]
    parameters: int
    multiply_accumulates: int
    activations: frozenset[str]
    input_shape: tuple[int, int, int]
    output_channels: int

    @property
    def float_activations(self) -> tuple[str, ...]:
        """The activations that LiteRT cannot compute in int8; a backbone without any is quantizable."""
        return tuple(sorted(self.activations - INT8_ACTIVATIONS - {"linear"}))


class CannotSketch(TypeError):
    """A block uses Keras layers of its own, about which nothing is known before they are built."""


@functools.lru_cache(maxsize=1024)
def outline(spec: BackboneSpec, input_shape: tuple[int, int, int] = (224, 224, 3)) -> Outline:
    """Parameters, multiply-accumulates, levels and activations of the backbone a spec describes.

    Args:
        spec: any spec.
        input_shape: (height, width, channels).

    Raises:
        CannotSketch: one of its blocks adds Keras layers of its own.

    Example:
        >>> outline(ResNetSpec()).parameters
        23508032
    """
    net = Sketch(spec)
    image = _Map((None, *input_shape), "image")
    layers, x = build(net, image)
    levels = {}
    for level, layer in layers.items():
        _, height, _, channels = net.shapes[layer]
        levels[level] = (channels, 2 ** round(math.log2(input_shape[0] / height)))
    return Outline(levels, net.parameters, net.macs, frozenset(net.activations), input_shape, x.shape[-1])


@dataclass(frozen=True)
class _Map:
    """A feature map of which only the shape is known."""

    shape: tuple[Any, ...]
    layer: str = field(compare=False)


class Sketch(Parts):
    """Follows shapes and counts.

    Attributes:
        parameters: trainable numbers so far.
        macs: multiply-accumulates so far.
        activations: names of the activations so far.
        shapes: layer name -> shape of its output.
    """

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.parameters = 0
        self.macs = 0
        self.activations: set[str] = set()
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def _map(self, name: str, *shape: int) -> _Map:
        self.shapes[name] = (None, *shape)
        return _Map((None, *shape), name)

    def add(self, layer_class: type, x: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        raise CannotSketch(f"layer {name!r} is a {layer_class.__name__}: what it does is known once it is built.")

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
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        height = _size(x.shape[1], rows, strides, padding, dilation)
        width = _size(x.shape[2], columns, strides, padding, dilation)
        weights = rows * columns * x.shape[-1] // groups * filters
        self.parameters += weights + filters * bias
        self.macs += weights * height * width
        return self._map(name, height, width, filters)

    def shared_conv2d(
        self, tensors: Sequence[Any], name: str, filters: int, kernel: int, *, bias: bool = False
    ) -> list[Any]:
        before = self.parameters
        outputs = []
        for x in tensors:
            self.parameters = before  # the weights are the same ones each time
            outputs.append(self.conv2d(x, name, filters, kernel, bias=bias))
        return outputs

    def depthwise2d(
        self, x: Any, name: str, kernel: int, *, strides: int = 1, padding: str = "same", dilation: int = 1
    ) -> Any:
        channels = x.shape[-1]
        options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}
        return self.conv2d(x, name, channels, kernel, groups=channels, **options)

    def batch_norm(self, x: Any, name: str, *, zero: bool = False) -> Any:
        self.parameters += 2 * x.shape[-1]
        return self._map(name, *x.shape[1:])

    def activation(self, x: Any, name: str, activation: str) -> Any:
        self.activations.add(activation)
        return self._map(name, *x.shape[1:])

    def pad(self, x: Any, name: str, pads: Pads) -> Any:
        return self._map(name, x.shape[1] + sum(pads[0]), x.shape[2] + sum(pads[1]), x.shape[-1])

    def max_pool(self, x: Any, name: str, size: int, strides: int, padding: str = "valid") -> Any:
        sizes = (_size(pixels, size, strides, padding, 1) for pixels in x.shape[1:3])
        return self._map(name, *sizes, x.shape[-1])

    avg_pool = max_pool

    def blur_pool(self, x: Any, name: str, strides: int) -> Any:
        self.macs += 9 * x.shape[-1] * math.prod(-(-pixels // strides) for pixels in x.shape[1:3])
        return self._map(name, *(-(-pixels // strides) for pixels in x.shape[1:3]), x.shape[-1])

    def global_pool(self, x: Any, name: str, kind: str = "avg") -> Any:
        return self._map(name, 1, 1, x.shape[-1])

    def channel_pool(self, x: Any, name: str, kind: str) -> Any:
        return self._map(name, *x.shape[1:3], 1)

    def channel_slice(self, x: Any, name: str, start: int, stop: int) -> Any:
        return self._map(name, *x.shape[1:3], stop - start)

    def channel_pad(self, x: Any, name: str, before: int, after: int) -> Any:
        return self._map(name, *x.shape[1:3], before + x.shape[-1] + after)

    def reshape(self, x: Any, name: str, shape: tuple[int, int, int]) -> Any:
        return self._map(name, *shape)

    def sum(self, tensors: Sequence[Any], name: str) -> Any:
        return self._map(name, *tensors[0].shape[1:])

    def multiply(self, x: Any, gate: Any, name: str) -> Any:
        return self._map(name, *x.shape[1:])

    def concat(self, tensors: Sequence[Any], name: str) -> Any:
        return self._map(name, *tensors[0].shape[1:3], sum(tensor.shape[-1] for tensor in tensors))

    def drop_path(self, x: Any, name: str, rate: float) -> Any:
        return self._map(name, *x.shape[1:])

    def rescale(self, x: Any, name: str, scale: Any, offset: Any) -> Any:
        return self._map(name, *x.shape[1:])

    def layer_name(self, x: Any) -> str:
        return x.layer


def _size(pixels: int, kernel: int, strides: int, padding: str, dilation: int) -> int:
    reach = 0 if padding == "same" else dilation * (kernel - 1)
    return -(-(pixels - reach) // strides)
