"""The residual block as one Keras layer."""

from __future__ import annotations

from typing import Any

from resnet_backbones.checks import in_range, positive_integers
from resnet_backbones.keras_api import activation_function, keras, policy_of, serializable

layers = keras.layers


@serializable("ResidualBlock")
class ResidualBlock(keras.layers.Layer):
    """F(x) = act(H(x) + S(x)): two 3x3 convolutions with batch norm, plus a shortcut.

    H(x) = bn(conv(act(bn(conv(x))))). The shortcut S is x itself where shapes match, else a 1x1 convolution with
    batch norm. He et al. 2015, https://arxiv.org/abs/1512.03385.

    Args:
        filters: channels of the output; the input's are inferred.
        strides: 1, or 2 to halve height and width (rounded up).
        activation: any activation by name: ``"relu"``, ``"silu"``, ``"hard_swish"`` ...
        bn_momentum: share of the old batch-norm statistics kept each step.
        bn_epsilon: added to the variance in batch norm.
        zero_init_last: starts the block as its shortcut: the second batch norm's scale is 0 at first.

    Call arguments:
        inputs: (batch, height, width, channels); height and width may be unknown, channels may not.
        training: whether batch norm uses the batch's statistics.

    Returns:
        (batch, ceil(height / strides), ceil(width / strides), filters)

    Raises:
        TypeError: a number is of the wrong type.
        ValueError: a number is not allowed, there is no such activation, or the input is no feature map.

    Example:
        >>> x = keras.Input((32, 32, 16))
        >>> ResidualBlock(64, strides=2)(x).shape
        (None, 16, 16, 64)
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        activation: str = "relu",
        *,
        bn_momentum: float = 0.9,
        bn_epsilon: float = 1e-5,
        zero_init_last: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        (self.filters,) = positive_integers("filters", (filters,))
        (self.strides,) = positive_integers("strides", (strides,))
        in_range("bn_momentum", bn_momentum, 0.0, 1.0)
        in_range("bn_epsilon", bn_epsilon, 0.0, 1.0)
        self.activation = activation
        self.bn_momentum = bn_momentum
        self.bn_epsilon = bn_epsilon
        self.zero_init_last = zero_init_last

        # Padding is even on all sides, as torch's, where Keras' "same" would be lopsided.
        self.pad1 = self._make(layers.ZeroPadding2D, "pad1", 1) if strides > 1 else None
        self.conv1 = self._conv("conv1", 3, strides, "valid" if strides > 1 else "same")
        self.bn1 = self._norm("bn1")
        self.act1 = self._make(layers.Activation, "act1", activation_function(activation))
        self.conv2 = self._conv("conv2", 3, 1, "same")
        self.bn2 = self._norm("bn2", "zeros" if zero_init_last else "ones")
        self.shortcut_conv: Any = None  # made in build, once the input's channels are known
        self.shortcut_bn: Any = None
        self.add = self._make(layers.Add, "add")
        self.act2 = self._make(layers.Activation, "act2", activation_function(activation))

    def _make(self, layer_class: type, name: str, *args: Any, **kwargs: Any) -> Any:
        return layer_class(*args, name=name, dtype=policy_of(self), **kwargs)

    def _conv(self, name: str, kernel: int, strides: int, padding: str) -> Any:
        initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        return self._make(
            layers.Conv2D,
            name,
            self.filters,
            kernel,
            strides=strides,
            padding=padding,
            use_bias=False,
            kernel_initializer=initializer,
        )

    def _norm(self, name: str, gamma: str = "ones") -> Any:
        return self._make(
            layers.BatchNormalization, name, momentum=self.bn_momentum, epsilon=self.bn_epsilon, gamma_initializer=gamma
        )

    def build(self, input_shape: Any) -> None:
        """Builds every part, and the projection where the shapes ask for one."""
        shape = tuple(input_shape)
        if len(shape) != 4 or shape[-1] is None:
            raise ValueError(
                f"ResidualBlock {self.name!r} takes (batch, height, width, channels) with known channels; got {shape}."
            )
        output = self.compute_output_shape(shape)
        if self.pad1 is not None:
            self.pad1.build(shape)
        self.conv1.build(shape)
        for layer in (self.bn1, self.act1, self.conv2, self.bn2, self.act2):
            layer.build(output)
        if self.strides != 1 or shape[-1] != self.filters:
            self.shortcut_conv = self._conv("shortcut_conv", 1, self.strides, "valid")
            self.shortcut_bn = self._norm("shortcut_bn")
            self.shortcut_conv.build(shape)
            self.shortcut_bn.build(output)
        self.add.build([output, output])
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The block's output, see the class."""
        x = inputs if self.pad1 is None else self.pad1(inputs)
        x = self.act1(self.bn1(self.conv1(x), training=training))
        x = self.bn2(self.conv2(x), training=training)
        shortcut = inputs
        if self.shortcut_conv is not None:
            shortcut = self.shortcut_bn(self.shortcut_conv(inputs), training=training)
        return self.act2(self.add([x, shortcut]))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(batch, ceil(height / strides), ceil(width / strides), filters)."""
        batch, height, width, _ = tuple(input_shape)
        return (batch, *(None if size is None else -(-size // self.strides) for size in (height, width)), self.filters)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "activation": self.activation,
            "bn_momentum": self.bn_momentum,
            "bn_epsilon": self.bn_epsilon,
            "zero_init_last": self.zero_init_last,
        }
