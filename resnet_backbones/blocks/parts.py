"""Layers as a spec asks for them. Every operation is a Keras layer, so that quantization can reach it."""

from __future__ import annotations

from typing import Any

from resnet_backbones.blocks.shortcuts import SHORTCUTS
from resnet_backbones.keras_api import activation_function, keras
from resnet_backbones.spec import BlockPlan, ResNetSpec

layers = keras.layers


class Parts:
    """Adds layers to a functional graph; blocks and stems get one as ``net``.

    Args:
        spec: the backbone's spec.
        dtype: dtype policy of every layer, by name; ``None`` for the global one.
    """

    def __init__(self, spec: ResNetSpec, dtype: str | None = None) -> None:
        self.spec = spec
        self.dtype = dtype

    def add(self, layer_class: type, x: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        """Applies ``layer_class(*args, name=name, **kwargs)`` to ``x``."""
        return layer_class(*args, name=name, dtype=self.dtype, **kwargs)(x)

    def conv(
        self, x: Any, filters: int, kernel: int, place: str, label: Any, *, strides: int = 1, dilation: int = 1
    ) -> Any:
        """A convolution without bias (batch norm follows), named ``{place}_conv{label}``.

        Strided ones are padded equally on all sides, as torch does; Keras' ``"same"`` would shift them by a
        pixel for even sizes. At stride 1 the two agree.
        """
        padding = "same"
        if strides > 1:
            padding = "valid"
            if kernel > 1:
                x = self.add(layers.ZeroPadding2D, x, f"{place}_pad{label}", dilation * (kernel // 2))
        return self.add(
            layers.Conv2D,
            x,
            f"{place}_conv{label}",
            filters,
            kernel,
            strides=strides,
            padding=padding,
            dilation_rate=dilation,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        )

    def norm(self, x: Any, place: str, label: Any, *, zero: bool = False) -> Any:
        """Batch norm named ``{place}_bn{label}``; ``zero`` starts it with scale 0 if the spec wants that."""
        gamma = "zeros" if zero and self.spec.zero_init_last else "ones"
        return self.add(
            layers.BatchNormalization,
            x,
            f"{place}_bn{label}",
            momentum=self.spec.bn_momentum,
            epsilon=self.spec.bn_epsilon,
            gamma_initializer=gamma,
        )

    def act(self, x: Any, name: str) -> Any:
        """The spec's activation, in a layer called ``name``."""
        return self.add(layers.Activation, x, name, activation_function(self.spec.activation))

    def conv_norm_act(self, x: Any, filters: int, kernel: int, place: str, label: Any, **conv: Any) -> Any:
        """Convolution, batch norm, activation: ``{place}_conv{label}``, ``_bn{label}``, ``_act{label}``."""
        x = self.conv(x, filters, kernel, place, label, **conv)
        return self.act(self.norm(x, place, label), f"{place}_act{label}")

    def shortcut(self, x: Any, plan: BlockPlan, channels: int) -> Any:
        """``x`` itself where its shape is the block's output shape, else a projection to it."""
        if plan.strides == 1 and x.shape[-1] == channels:
            return x
        return SHORTCUTS[self.spec.shortcut](self, x, plan, channels)

    def merge(self, residual: Any, shortcut: Any, plan: BlockPlan) -> Any:
        """Drop path, sum, activation: the end of a block, in a layer ``{plan.name}_out``."""
        if plan.drop_path_rate > 0:
            residual = self.add(
                layers.Dropout, residual, f"{plan.name}_drop_path", plan.drop_path_rate, noise_shape=(None, 1, 1, 1)
            )
        total = self.add(layers.Add, [residual, shortcut], f"{plan.name}_add")
        return self.act(total, f"{plan.name}_out")
