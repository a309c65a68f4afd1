"""Small layers that backbones need and Keras lacks: striding after a low-pass filter, and what looks at channels."""

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


class _ChannelPool(keras.layers.Layer):
    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(batch, height, width, 1)."""
        return (*tuple(input_shape)[:-1], 1)


# Two classes and not one with an argument: quantization's rules go by class, and a maximum keeps the scale of what it
# reads where a mean has its own.
@serializable("ChannelMean")
class ChannelMean(_ChannelPool):
    """The mean over the channels.

    Call arguments:
        inputs: (batch, height, width, channels).

    Returns:
        (batch, height, width, 1)

    Example:
        >>> ChannelMean()(keras.Input((8, 8, 16))).shape
        (None, 8, 8, 1)
    """

    def call(self, inputs: Any) -> Any:
        """The means."""
        return ops.mean(inputs, axis=-1, keepdims=True)


@serializable("ChannelMax")
class ChannelMax(_ChannelPool):
    """The maximum over the channels.

    Call arguments:
        inputs: (batch, height, width, channels).

    Returns:
        (batch, height, width, 1)

    Example:
        >>> ChannelMax()(keras.Input((8, 8, 16))).shape
        (None, 8, 8, 1)
    """

    def call(self, inputs: Any) -> Any:
        """The maxima."""
        return ops.max(inputs, axis=-1, keepdims=True)


@serializable("ChannelSlice")
class ChannelSlice(keras.layers.Layer):
    """Some of the channels.

    Args:
        start: the first channel, from 0.
        stop: the first channel no longer taken.

    Call arguments:
        inputs: (batch, height, width, channels), at least ``stop`` channels.

    Returns:
        (batch, height, width, stop - start)

    Example:
        >>> ChannelSlice(4, 12)(keras.Input((8, 8, 16))).shape
        (None, 8, 8, 8)
    """

    def __init__(self, start: int, stop: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= start < stop:
            raise ValueError(f"channels {start} to {stop} are none: give 0 <= start < stop.")
        self.start, self.stop = start, stop

    def call(self, inputs: Any) -> Any:
        """The channels from ``start`` to ``stop``."""
        if inputs.shape[-1] < self.stop:
            raise ValueError(f"{self.name!r} takes channels {self.start} to {self.stop} of {inputs.shape[-1]}.")
        return inputs[..., self.start : self.stop]

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(batch, height, width, stop - start)."""
        return (*tuple(input_shape)[:-1], self.stop - self.start)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "start": self.start, "stop": self.stop}


@serializable("ChannelPad")
class ChannelPad(keras.layers.Layer):
    """Channels of zeros beside those that are there.

    Args:
        before: how many come first.
        after: how many come last.

    Call arguments:
        inputs: (batch, height, width, channels).

    Returns:
        (batch, height, width, before + channels + after)

    Example:
        >>> ChannelPad(8, 8)(keras.Input((8, 8, 16))).shape
        (None, 8, 8, 32)
    """

    def __init__(self, before: int, after: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, channels in (("before", before), ("after", after)):
            if isinstance(channels, bool) or not isinstance(channels, int) or channels < 0:
                raise ValueError(f"{name} must be a number of channels, 0 or more; got {channels!r}.")
        self.before, self.after = before, after

    def call(self, inputs: Any) -> Any:
        """The wider feature map."""
        return ops.pad(inputs, [[0, 0], [0, 0], [0, 0], [self.before, self.after]])

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(batch, height, width, before + channels + after)."""
        *size, channels = tuple(input_shape)
        return (*size, self.before + channels + self.after)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "before": self.before, "after": self.after}
