"""Striding behind a low-pass filter."""

from __future__ import annotations

from typing import Any

import numpy as np

from resnet_backbones._util.checks import positive_integers
from resnet_backbones.keras_compat import keras, ops, serializable

_FILTER = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]).astype("float32")


@serializable("BlurPool2D")
class BlurPool2D(keras.layers.Layer):
    """The 3x3 filter 1-2-1 on mirrored borders, strided: subsampling without aliases.

    Args:
        strides: how many pixels apart the outputs are.

    Call arguments:
        inputs: (batch, height, width, channels) of at least 2x2 pixels; the channels known.

    Returns:
        (batch, ceil(height / strides), ceil(width / strides), channels)

    Example:
        >>> BlurPool2D(2)(keras.Input((32, 32, 16))).shape
        (None, 16, 16, 16)

    Source: Zhang 2019, https://arxiv.org/abs/1904.11486
    """

    def __init__(self, strides: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        (self.strides,) = positive_integers("strides", (strides,))

    def build(self, input_shape: Any) -> None:
        """Lays the filter out for each channel. It is a constant, no weight: files of weights do not hold it."""
        self.kernel = np.tile(_FILTER[:, :, None, None], (1, 1, input_shape[-1], 1))
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """The filtered and strided feature map."""
        padded = ops.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), inputs.dtype)
        return ops.depthwise_conv(padded, kernel, strides=self.strides, padding="valid", data_format="channels_last")

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(batch, ceil(height / strides), ceil(width / strides), channels)."""
        batch, *size, channels = tuple(input_shape)
        return (batch, *(None if pixels is None else -(-pixels // self.strides) for pixels in size), channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "strides": self.strides}
