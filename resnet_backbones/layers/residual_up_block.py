"""The upsampling residual block as one Keras layer: what generators and decoders are made of."""

from __future__ import annotations

from typing import Any

from resnet_backbones._util.checks import positive_integers
from resnet_backbones.keras_compat import keras, serializable
from resnet_backbones.layers.residual_layer import ResidualLayer


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
        super().__init__(
            filters,
            activation,
            bn_momentum=bn_momentum,
            bn_epsilon=bn_epsilon,
            zero_init_last=zero_init_last,
            **kwargs,
        )
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
