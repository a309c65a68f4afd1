"""The residual blocks that are one Keras layer each: one that may stride, and one that enlarges its input."""

from __future__ import annotations

from typing import Any

from resnet_backbones._util.checks import in_range, positive_integers
from resnet_backbones.keras_compat import LayersAsMade, activation_function, keras, numbered, policy_of, serializable
from resnet_backbones.layers.batch_norm import BatchNormalization

layers = keras.layers


class ResidualLayer(keras.layers.Layer):
    """F(x) = act(H(x) + S(x)), where H is 3x3 convolution, batch norm, activation, 3x3 convolution, batch norm.

    A subclass says how height and width change: in ``_enter`` on the way into H, in ``_shortcut`` on the way round it,
    in ``_resized`` in numbers. Every operation is a layer, so that quantization can reach it.

    Args:
        filters: channels of the output; the input's are inferred.
        activation: any activation by name.
        conv_strides: strides of the first convolution and of the projection; beyond 1, the subclass pads.
        bn_momentum: share of the old batch-norm statistics kept each step.
        bn_epsilon: added to the variance in batch norm.
        zero_init_last: starts the block as its shortcut: the second batch norm's scale is 0 at first.
    """

    def __init__(
        self,
        filters: int,
        activation: str,
        bn_momentum: float,
        bn_epsilon: float,
        zero_init_last: bool,
        conv_strides: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        (self.filters,) = positive_integers("filters", (filters,))
        in_range("bn_momentum", bn_momentum, 0.0, 1.0)
        in_range("bn_epsilon", bn_epsilon, 0.0, 1.0)
        self.activation = activation
        self.bn_momentum = bn_momentum
        self.bn_epsilon = bn_epsilon
        self.zero_init_last = zero_init_last

        self._as_made: LayersAsMade | None = None  # noted in build, once the layers inside are
        self._changes: dict[str, Any] = {}
        self._conv_strides = conv_strides
        self.conv1 = self._conv("conv1", 3, conv_strides, "valid" if conv_strides > 1 else "same")
        self.bn1 = self._norm("bn1")
        self.act1 = self._make(layers.Activation, "act1", activation_function(activation))
        self.conv2 = self._conv("conv2", 3, 1, "same")
        self.bn2 = self._norm("bn2", "zeros" if zero_init_last else "ones")
        self.shortcut_conv: Any = None  # made in build, once the input's channels are known
        self.shortcut_bn: Any = None
        self.add = self._make(layers.Add, "add")
        self.act2 = self._make(layers.Activation, "act2", activation_function(activation))

    def _enter(self, inputs: Any) -> Any:
        """What the first convolution reads."""
        raise NotImplementedError

    def _shortcut(self, inputs: Any, entered: Any, training: bool | None) -> Any:
        """S(x), of the block's inputs and of what ``_enter`` made of them."""
        raise NotImplementedError

    def _resized(self, size: int) -> int:
        """The height or width that comes out, of the one that goes in."""
        raise NotImplementedError

    def _project(self, inputs: Any, training: bool | None) -> Any:
        """The 1x1 convolution with batch norm; ``inputs`` themselves where the block has none."""
        if self.shortcut_conv is None:
            return inputs
        return self.shortcut_bn(self.shortcut_conv(inputs), training=training)

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
            data_format="channels_last",
        )

    def _norm(self, name: str, gamma: str = "ones") -> Any:
        return self._make(
            BatchNormalization, name, momentum=self.bn_momentum, epsilon=self.bn_epsilon, gamma_initializer=gamma
        )

    def build(self, input_shape: Any) -> None:
        """Builds every part, and the projection where channels or strides ask for one."""
        shape = tuple(input_shape)
        if len(shape) != 4 or shape[-1] is None:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} takes (batch, height, width, channels) with known channels; "
                f"got {shape}."
            )
        output = self.compute_output_shape(shape)
        self.conv1.build(shape)  # of a shape, these read the channels only
        for layer in (self.bn1, self.act1, self.conv2, self.bn2, self.act2):
            layer.build(output)
        if self._conv_strides != 1 or shape[-1] != self.filters:
            self.shortcut_conv = self._conv("shortcut_conv", 1, self._conv_strides, "valid")
            self.shortcut_bn = self._norm("shortcut_bn")
            self.shortcut_conv.build(shape)
            self.shortcut_bn.build(output)
        self.add.build([output, output])
        super().build(input_shape)
        self._as_made = LayersAsMade(numbered(self._flatten_layers(include_self=False)))
        self._as_made.change(self, self.trainable, self._changes)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The block's output, see the class."""
        entered = self._enter(inputs)
        x = self.act1(self.bn1(self.conv1(entered), training=training))
        x = self.bn2(self.conv2(x), training=training)
        return self.act2(self.add([x, self._shortcut(inputs, entered, training)]))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(batch, height, width, filters), height and width as the block makes them."""
        batch, height, width, _ = tuple(input_shape)
        return (batch, *(None if size is None else self._resized(size) for size in (height, width)), self.filters)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments that all residual layers have, and what was changed on the layers inside."""
        changes = self._as_made.changes(self, _REMEDY) if self._as_made else self._changes
        arguments = ("filters", "activation", "bn_momentum", "bn_epsilon", "zero_init_last")
        own = {name: getattr(self, name) for name in arguments}
        return {**({"layer_changes": changes} if changes else {}), **super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The layer that ``get_config`` described; what was changed inside is changed when it is built."""
        arguments = dict(config)
        changes = arguments.pop("layer_changes", {})
        layer = super().from_config(arguments)
        layer._changes = changes
        return layer


_REMEDY = (
    "A residual block is saved as its arguments with those changed inside it: build such a one of Keras' own layers."
)


@serializable("ResidualBlock")
class ResidualBlock(ResidualLayer):
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
        (strides,) = positive_integers("strides", (strides,))
        super().__init__(
            *(filters, activation, bn_momentum, bn_epsilon, zero_init_last), conv_strides=strides, **kwargs
        )
        self.strides = strides
        # Padding is even on all sides, as torch's, where Keras' "same" would be lopsided.
        self.pad1 = (
            self._make(keras.layers.ZeroPadding2D, "pad1", 1, data_format="channels_last") if strides > 1 else None
        )

    def build(self, input_shape: Any) -> None:
        """Builds every part."""
        super().build(input_shape)
        if self.pad1 is not None:
            self.pad1.build(tuple(input_shape))

    def _enter(self, inputs: Any) -> Any:
        return inputs if self.pad1 is None else self.pad1(inputs)

    def _shortcut(self, inputs: Any, entered: Any, training: bool | None) -> Any:
        return self._project(inputs, training)

    def _resized(self, size: int) -> int:
        return -(-size // self.strides)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "strides": self.strides}


@serializable("ResidualUpBlock")
class ResidualUpBlock(ResidualLayer):
    """F(x) = act(H(up(x)) + up(S(x))): a residual block that enlarges its input, nearest pixels repeated.

    H(u) = bn(conv(act(bn(conv(u))))) with 3x3 convolutions. S is x itself where input and output have the same
    channels, else a 1x1 convolution with batch norm; it stands before the upsampling, where it gives the same values
    for a quarter of the work. The block is that of He et al. 2015, https://arxiv.org/abs/1512.03385; residual blocks
    that upsample make the generators of Miyato et al. 2018, https://arxiv.org/abs/1802.05957 (theirs activate first).

    Args:
        filters: channels of the output; the input's are inferred.
        scale: how many times larger height and width become.
        activation: any activation by name: ``"relu"``, ``"silu"``, ``"hard_swish"`` ...
        bn_momentum: share of the old batch-norm statistics kept each step.
        bn_epsilon: added to the variance in batch norm.
        zero_init_last: starts the block as its upsampled shortcut: the second batch norm's scale is 0 at first.

    Call arguments:
        inputs: (batch, height, width, channels); height and width may be unknown, channels may not.
        training: whether batch norm uses the batch's statistics.

    Returns:
        (batch, scale * height, scale * width, filters)

    Raises:
        TypeError: a number is of the wrong type.
        ValueError: a number is not allowed, there is no such activation, or the input is no feature map.

    Example:
        >>> x = keras.Input((8, 8, 64))
        >>> ResidualUpBlock(32)(x).shape
        (None, 16, 16, 32)
    """

    def __init__(
        self,
        filters: int,
        scale: int = 2,
        activation: str = "relu",
        *,
        bn_momentum: float = 0.9,
        bn_epsilon: float = 1e-5,
        zero_init_last: bool = False,
        **kwargs: Any,
    ) -> None:
        (scale,) = positive_integers("scale", (scale,))
        super().__init__(filters, activation, bn_momentum, bn_epsilon, zero_init_last, **kwargs)
        self.scale = scale
        self.up = self._upsampling("up")
        self.shortcut_up: Any = None  # made in build, where there is a projection to enlarge

    def build(self, input_shape: Any) -> None:
        """Builds every part."""
        super().build(input_shape)
        shape = tuple(input_shape)
        self.up.build(shape)
        if self.shortcut_conv is not None:
            self.shortcut_up = self._upsampling("shortcut_up")
            self.shortcut_up.build((*shape[:3], self.filters))

    def _upsampling(self, name: str) -> Any:
        options = {"interpolation": "nearest", "data_format": "channels_last"}
        return self._make(keras.layers.UpSampling2D, name, self.scale, **options)

    def _enter(self, inputs: Any) -> Any:
        return self.up(inputs)

    def _shortcut(self, inputs: Any, entered: Any, training: bool | None) -> Any:
        return entered if self.shortcut_up is None else self.shortcut_up(self._project(inputs, training))

    def _resized(self, size: int) -> int:
        return size * self.scale

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale}
