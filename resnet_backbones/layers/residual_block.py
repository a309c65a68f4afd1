"""The residual block as one Keras layer."""

from __future__ import annotations

from typing import Any

from resnet_backbones._util.checks import positive_integers
from resnet_backbones.keras_compat import keras, serializable
from resnet_backbones.layers.residual_layer import ResidualLayer


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
            filters,
            activation,
            bn_momentum=bn_momentum,
            bn_epsilon=bn_epsilon,
            zero_init_last=zero_init_last,
            conv_strides=strides,
            **kwargs,
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
