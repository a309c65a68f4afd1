"""When ranges stop moving and batch norm statistics stop, while a quantized model trains."""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_api import keras
from resnet_backbones.quantization.hooks import freezes_of, quantizers_of


class QuantizationSchedule(keras.callbacks.Callback):
    """Freezes batch norm statistics, then activation ranges, at the start of chosen epochs.

    Both switches are variables of the model: a traced train step obeys them at once, and they are saved with it.
    A frozen batch norm normalises with its moving statistics, as in inference; its scale and offset go on learning.

    Args:
        freeze_batch_norm_epoch: first epoch (from 0) with batch norm statistics frozen; ``None``: never.
        freeze_ranges_epoch: first epoch (from 0) with ranges frozen; ``None``: never.

    Raises:
        ValueError: an epoch is negative; at ``fit``, the model is not quantized.

    Example:
        >>> schedule = QuantizationSchedule(freeze_batch_norm_epoch=1, freeze_ranges_epoch=2)
        >>> model.fit(train, epochs=3, callbacks=[schedule])

    Source: the schedule of Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018,
    https://arxiv.org/abs/1806.08342
    """

    def __init__(self, freeze_batch_norm_epoch: int | None = 1, freeze_ranges_epoch: int | None = 2) -> None:
        super().__init__()
        for name, epoch in (
            ("freeze_batch_norm_epoch", freeze_batch_norm_epoch),
            ("freeze_ranges_epoch", freeze_ranges_epoch),
        ):
            if epoch is not None and epoch < 0:
                raise ValueError(f"{name} counts epochs from 0 (None: never); got {epoch}.")
        self.freeze_batch_norm_epoch = freeze_batch_norm_epoch
        self.freeze_ranges_epoch = freeze_ranges_epoch

    def on_train_begin(self, logs: Any = None) -> None:
        if not quantizers_of(self.model):
            raise ValueError(
                "QuantizationSchedule works on a quantized model: call quantize_aware(model) before fit()."
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for switch in freezes_of(self.model):
            switch.frozen.assign(_reached(self.freeze_batch_norm_epoch, epoch))
        for quantizer in quantizers_of(self.model):
            if quantizer.fixed_range is None:
                quantizer.observing.assign(1.0 - _reached(self.freeze_ranges_epoch, epoch))


def _reached(first: int | None, epoch: int) -> float:
    return 1.0 if first is not None and epoch >= first else 0.0
