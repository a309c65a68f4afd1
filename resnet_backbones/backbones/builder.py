"""The parts that blocks, stems and networks are made of, and the network of a spec. Knows no Keras.

What makes the layers is a subclass of ``Parts``. ``KerasParts`` adds Keras layers to a functional graph; ``Sketch``
follows shapes and counts, so that parameters, multiply-accumulates and levels of a backbone are known before anything
is built.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from resnet_backbones.backbones.spec import BackboneSpec, BlockPlan


def conv_shortcut(net: Any, x: Any, plan: BlockPlan, channels: int, *, norm: bool = True) -> Any:
    """A strided 1x1 convolution and batch norm (option B of https://arxiv.org/abs/1512.03385).

    ``shortcut_kernel`` widens the kernel where the block strides, or dilates in place of a stride.
    """
    kernel = net.spec.shortcut_kernel if plan.strides > 1 or plan.dilation > 1 else 1
    dilation = plan.first_dilation if kernel > 1 else 1
    x = net.conv(x, channels, kernel, f"{plan.name}_shortcut", "", strides=plan.strides, dilation=dilation)
    return net.norm(x, f"{plan.name}_shortcut", "") if norm else x


def avg_pool_shortcut(net: Any, x: Any, plan: BlockPlan, channels: int, *, norm: bool = True) -> Any:
    """Average pooling, then the 1x1 convolution: no pixel is thrown away (https://arxiv.org/abs/1812.01187)."""
    place = f"{plan.name}_shortcut"
    if plan.strides > 1:
        # An odd row or column left over is averaged over the pixels it has: "same" does that.
        x = net.avg_pool(x, f"{place}_pool", 2, plan.strides, "same")
    elif plan.dilation > 1:
        # timm's dilated form: zeros below and right take part in the average.
        x = net.pad(x, f"{place}_pad", ((0, 1), (0, 1)))
        x = net.avg_pool(x, f"{place}_pool", 2, 1)
    x = net.conv(x, channels, 1, place, "")
    return net.norm(x, place, "") if norm else x


def max_pool_shortcut(net: Any, x: Any, plan: BlockPlan, channels: int, *, norm: bool = True) -> Any:
    """Every second pixel where the channels stay, else the 1x1 convolution (keras.applications' ResNet v2)."""
    if x.shape[-1] == channels:
        return net.max_pool(x, f"{plan.name}_shortcut_pool", 1, plan.strides)
    return conv_shortcut(net, x, plan, channels, norm=norm)


def pad_shortcut(net: Any, x: Any, plan: BlockPlan, channels: int) -> Any:
    """Every second pixel, and channels of zeros on both sides (option A of https://arxiv.org/abs/1512.03385).

    No parameters, as in the paper's nets for CIFAR. That half of the zeros come first is Akamaster's way
    (https://github.com/akamaster/pytorch_resnet_cifar10); the order of channels means nothing else.

    Raises:
        ValueError: the block has fewer channels than its input.
    """
    missing = channels - x.shape[-1]
    if missing < 0:
        raise ValueError(
            f"shortcut 'pad' adds channels, and {plan.name} has {channels} of {x.shape[-1]}: take shortcut='conv'."
        )
    if plan.strides > 1:
        x = net.max_pool(x, f"{plan.name}_shortcut_pool", 1, plan.strides)
    return net.channel_pad(x, f"{plan.name}_shortcut_pad", missing // 2, missing - missing // 2) if missing else x


#: Projections, by the name a spec gives: used where a block changes stride or channels.
SHORTCUTS: dict[str, Any] = {
    "conv": conv_shortcut,
    "avg_pool": avg_pool_shortcut,
    "max_pool": max_pool_shortcut,
    "pad": pad_shortcut,
}


Pads = tuple[tuple[int, int], tuple[int, int]]


class Parts(ABC):
    """Adds layers as a spec asks for them; blocks, stems and networks get one as ``net``.

    A feature map ``x`` has ``x.shape``, (batch, height, width, channels); all but the channels may be ``None``.
    Every operation is a layer of its own with a name, so that quantization can reach it.

    Args:
        spec: the backbone's spec.
    """

    def __init__(self, spec: Any) -> None:
        self.spec: Any = spec
        self.preactivations: dict[str, str] = {}
        if not isinstance(spec, BackboneSpec):
            raise TypeError(f"a backbone is built from a spec, such as ResNetSpec; got {spec!r}.")

    # --- single layers -----------------------------------------------------------------------------------------

    @abstractmethod
    def add(self, layer_class: type, x: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        """Applies a Keras layer, ``layer_class(*args, name=name, **kwargs)``: for what the methods below do not do."""

    @abstractmethod
    def conv2d(
        self,
        x: Any,
        name: str,
        filters: int,
        kernel: int | tuple[int, int],
        *,
        strides: int = 1,
        padding: str = "same",
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> Any:
        """A convolution; ``padding`` is ``"same"`` or ``"valid"``."""

    @abstractmethod
    def shared_conv2d(
        self, tensors: Sequence[Any], name: str, filters: int, kernel: int, *, bias: bool = False
    ) -> list[Any]:
        """One convolution of stride 1 applied to several feature maps: the same weights for each."""

    @abstractmethod
    def depthwise2d(
        self, x: Any, name: str, kernel: int, *, strides: int = 1, padding: str = "same", dilation: int = 1
    ) -> Any:
        """A depthwise convolution without bias."""

    @abstractmethod
    def batch_norm(self, x: Any, name: str, *, zero: bool = False) -> Any:
        """Batch norm with the spec's momentum and epsilon; ``zero`` starts it with scale 0."""

    @abstractmethod
    def activation(self, x: Any, name: str, activation: str) -> Any:
        """Any activation by its name."""

    @abstractmethod
    def pad(self, x: Any, name: str, pads: Pads) -> Any:
        """Zeros around: ((above, below), (left, right))."""

    @abstractmethod
    def max_pool(self, x: Any, name: str, size: int, strides: int, padding: str = "valid") -> Any:
        """Max pooling."""

    @abstractmethod
    def avg_pool(self, x: Any, name: str, size: int, strides: int, padding: str = "valid") -> Any:
        """Average pooling; with ``"same"``, over the pixels that are there."""

    @abstractmethod
    def blur_pool(self, x: Any, name: str, strides: int) -> Any:
        """The fixed 3x3 low-pass filter 1-2-1 on mirrored borders, strided (https://arxiv.org/abs/1904.11486)."""

    @abstractmethod
    def global_pool(self, x: Any, name: str, kind: str = "avg") -> Any:
        """The mean (``"avg"``) or maximum (``"max"``) over height and width: (batch, 1, 1, channels)."""

    @abstractmethod
    def channel_pool(self, x: Any, name: str, kind: str) -> Any:
        """The mean (``"avg"``) or maximum (``"max"``) over channels: (batch, height, width, 1)."""

    @abstractmethod
    def channel_slice(self, x: Any, name: str, start: int, stop: int) -> Any:
        """The channels ``start`` to ``stop`` (not included)."""

    @abstractmethod
    def channel_pad(self, x: Any, name: str, before: int, after: int) -> Any:
        """Channels of zeros, ``before`` and ``after`` those of ``x``."""

    @abstractmethod
    def reshape(self, x: Any, name: str, shape: tuple[int, int, int]) -> Any:
        """The same values as (batch, \\*shape)."""

    @abstractmethod
    def sum(self, tensors: Sequence[Any], name: str) -> Any:
        """The sum of equally shaped feature maps."""

    @abstractmethod
    def multiply(self, x: Any, gate: Any, name: str) -> Any:
        """``x * gate``; the gate's height, width or channels may be 1."""

    @abstractmethod
    def concat(self, tensors: Sequence[Any], name: str) -> Any:
        """Feature maps side by side in the channels."""

    @abstractmethod
    def drop_path(self, x: Any, name: str, rate: float) -> Any:
        """In training, zero for a whole sample with probability ``rate``; the others grow by 1 / (1 - rate)."""

    @abstractmethod
    def rescale(self, x: Any, name: str, scale: Any, offset: Any) -> Any:
        """``x * scale + offset``, numbers or one for each channel."""

    @abstractmethod
    def layer_name(self, x: Any) -> str:
        """The name of the layer whose output ``x`` is."""

    # --- what blocks are made of -------------------------------------------------------------------------------

    def conv(
        self,
        x: Any,
        filters: int,
        kernel: int,
        place: str,
        label: Any,
        *,
        strides: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool | None = None,
    ) -> Any:
        """A convolution named ``{place}_conv{label}``, padded so that only the stride shrinks it.

        Strided ones are padded as the spec's ``padding`` says; at stride 1 both ways agree. ``bias`` is by default the
        spec's ``conv_bias``, if it has one: none, since batch norm follows.
        """
        x, padding = self._padded(x, f"{place}_pad{label}", kernel, strides, dilation)
        bias = getattr(self.spec, "conv_bias", False) if bias is None else bias
        return self.conv2d(
            x,
            f"{place}_conv{label}",
            filters,
            kernel,
            strides=strides,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )

    def depthwise(self, x: Any, kernel: int, place: str, label: Any, *, strides: int = 1, dilation: int = 1) -> Any:
        """A depthwise convolution named ``{place}_depthwise{label}``, padded as :meth:`conv`."""
        x, padding = self._padded(x, f"{place}_pad{label}", kernel, strides, dilation)
        name = f"{place}_depthwise{label}"
        return self.depthwise2d(x, name, kernel, strides=strides, padding=padding, dilation=dilation)

    def _padded(self, x: Any, name: str, kernel: int, strides: int, dilation: int) -> tuple[Any, str]:
        if strides == 1 or self.spec.padding == "same":
            return x, "same"
        margin = dilation * (kernel // 2)
        return (self.pad(x, name, ((margin, margin), (margin, margin))) if margin else x), "valid"

    def norm(self, x: Any, place: str, label: Any, *, zero: bool = False) -> Any:
        """Batch norm named ``{place}_bn{label}``; ``zero`` starts it with scale 0 if the spec wants that."""
        return self.batch_norm(x, f"{place}_bn{label}", zero=zero and self.spec.zero_init_last)

    def act(self, x: Any, name: str) -> Any:
        """The spec's activation, in a layer called ``name``."""
        return self.activation(x, name, self.spec.activation)

    def gate(self, x: Any, name: str, activation: str) -> Any:
        """An activation that ends an attention branch, in a layer called ``name``.

        A hard sigmoid is written out, relu6(x + 3) / 6: LiteRT has no int8 form of it, but has of its three steps.
        """
        if activation != "hard_sigmoid":
            return self.activation(x, name, activation)
        x = self.rescale(x, f"{name}_shift", 1.0, 3.0)
        x = self.activation(x, f"{name}_relu6", "relu6")
        return self.rescale(x, name, 1 / 6, 0.0)

    def conv_norm_act(self, x: Any, filters: int, kernel: int, place: str, label: Any, **conv: Any) -> Any:
        """Convolution, batch norm, activation: ``{place}_conv{label}``, ``_bn{label}``, ``_act{label}``."""
        x = self.conv(x, filters, kernel, place, label, **conv)
        return self.act(self.norm(x, place, label), f"{place}_act{label}")

    def preactivate(self, x: Any, plan: BlockPlan) -> Any:
        """Batch norm and activation before a block's first convolution: ``{plan.name}_bn1``, ``_act1`` (ResNet v2)."""
        x = self.act(self.norm(x, plan.name, 1), f"{plan.name}_act1")
        self.preactivations[plan.name] = self.layer_name(x)
        return x

    def shortcut(self, x: Any, plan: BlockPlan, channels: int, *, activated: Any = None) -> Any:
        """``x`` itself where its shape is the block's output shape, else a projection to it.

        ``activated`` is what :meth:`preactivate` made of ``x``: a convolution then starts from it, without batch norm
        after it (He et al. 2016, https://arxiv.org/abs/1603.05027); shortcuts without parameters start from ``x``.
        """
        if plan.strides == 1 and x.shape[-1] == channels:
            return x
        kind = self.spec.shortcut
        if kind == "pad" or (kind == "max_pool" and x.shape[-1] == channels):
            return SHORTCUTS[kind](self, x, plan, channels)
        if activated is None:
            return SHORTCUTS[kind](self, x, plan, channels)
        return SHORTCUTS[kind](self, activated, plan, channels, norm=False)

    def merge(self, residual: Any, shortcut: Any, plan: BlockPlan, *, act: bool = True) -> Any:
        """Drop path, sum, and unless ``act`` is off, activation: the end of a block, in a layer ``{plan.name}_out``."""
        if plan.drop_path_rate > 0:
            residual = self.drop_path(residual, f"{plan.name}_drop_path", plan.drop_path_rate)
        if not act:
            return self.sum([residual, shortcut], f"{plan.name}_out")
        return self.act(self.sum([residual, shortcut], f"{plan.name}_add"), f"{plan.name}_out")


def build(net: Parts, image: Any) -> tuple[dict[str, str], Any]:
    """The network of ``net.spec`` on an image, its preprocessing first.

    Args:
        net: what adds the layers.
        image: (batch, height, width, channels).

    Returns:
        Level -> name of the layer it ends in, and the last feature map.
    """
    spec = net.spec
    x = image
    if spec.preprocessing is not None:
        x = net.rescale(x, "preprocessing", **spec.preprocessing.to_dict())
    network = spec.network
    if isinstance(network, str):
        module, _, function = network.partition(":")
        network = getattr(importlib.import_module(module), function)
    return network(net, x)
