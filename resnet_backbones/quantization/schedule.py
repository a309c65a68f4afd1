"""When ranges stop moving and batch norm statistics stop, while a quantized model trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.hooks import freezes_of, quantizers_of
from resnet_backbones.quantization.schedule_state import is_skipping, schedule_states_of


class _Default(int):
    """An epoch nobody asked for: a step given in its place is no contradiction."""


_FIRST, _SECOND = _Default(1), _Default(2)


@dataclass(frozen=True)
class _Moment:
    """The epoch or the step from which on something is frozen; neither: never."""

    epoch: int | None
    step: int | None

    def reached(self, epoch: int, step: int) -> bool:
        by_epoch = self.epoch is not None and epoch >= self.epoch
        return by_epoch or (self.step is not None and step >= self.step)


class QuantizationSchedule(keras.callbacks.Callback):
    """Freezes batch norm statistics, then activation ranges, from chosen epochs or steps on.

    Both switches are variables of the model: a traced train step obeys them at once, in the middle of an epoch too,
    and they are saved with it. A frozen batch norm normalises with its moving statistics, as in inference; its scale
    and offset go on learning.

    **What is counted.** The model itself counts the epochs and steps trained under a schedule, in variables that
    ``.keras`` files, weights alone and backups hold. So training that goes on, in this process or another, goes on
    with the schedule: after ``fit(epochs=3)`` and a second ``fit(epochs=2)``, or ``fit(initial_epoch=3, epochs=5)``,
    five epochs are counted. An epoch's number is ``fit``'s own or the model's count, whichever is larger. Steps are
    counted over all fits; batches passed over by :class:`TrainingBackup` are not steps. With ``steps_per_execution``
    larger than one, switches change between executions. ``QuantizationSchedule.restart(model)`` counts from zero again.

    Without a schedule, ``fit`` leaves the switches as they are.

    Args:
        freeze_batch_norm_epoch: first epoch (from 0) with batch norm statistics frozen; ``None``: never.
        freeze_ranges_epoch: first epoch (from 0) with ranges frozen; ``None``: never.
        freeze_batch_norm_step: in place of the epoch: steps trained before the statistics are frozen.
        freeze_ranges_step: in place of the epoch: steps trained before ranges are frozen.

    Raises:
        ValueError: an epoch or step is negative or no whole number, or both are given for one switch; at ``fit``, the
            model is not quantized.

    Example:
        >>> schedule = QuantizationSchedule(freeze_batch_norm_epoch=1, freeze_ranges_epoch=2)
        >>> model.fit(train, epochs=3, callbacks=[schedule])
        >>> schedule = QuantizationSchedule(freeze_batch_norm_step=500, freeze_ranges_step=1000)

    Source: the schedule of Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018,
    https://arxiv.org/abs/1806.08342
    """

    def __init__(
        self,
        freeze_batch_norm_epoch: int | None = _FIRST,
        freeze_ranges_epoch: int | None = _SECOND,
        *,
        freeze_batch_norm_step: int | None = None,
        freeze_ranges_step: int | None = None,
    ) -> None:
        super().__init__()
        self._batch_norm = _moment("freeze_batch_norm", freeze_batch_norm_epoch, freeze_batch_norm_step)
        self._ranges = _moment("freeze_ranges", freeze_ranges_epoch, freeze_ranges_step)
        self.freeze_batch_norm_epoch, self.freeze_batch_norm_step = self._batch_norm.epoch, self._batch_norm.step
        self.freeze_ranges_epoch, self.freeze_ranges_step = self._ranges.epoch, self._ranges.step

    @staticmethod
    def restart(model: Any) -> None:
        """Counts from zero again: statistics and ranges move, as in a model just quantized.

        Args:
            model: a quantized model.

        Raises:
            ValueError: the model is not quantized.
        """
        _check_quantized(model)
        for state in schedule_states_of(model):
            state.epochs.assign(0)
            state.steps.assign(0)
        _switch(model, batch_norm=False, ranges=False)

    def on_train_begin(self, logs: Any = None) -> None:
        _check_quantized(self.model)
        self._states = schedule_states_of(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Read here, not at the beginning of fit: a callback listed later may restore the variables there.
        self._epoch = max(epoch, *(int(state.epochs.numpy()) for state in self._states))
        self._steps = max(int(state.steps.numpy()) for state in self._states)
        self._frozen: tuple[bool, bool] | None = None
        self._obey()
        self._now_unfinished("epoch")

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not is_skipping(self.model):
            self._begun_at = batch
            self._obey()
            self._now_unfinished("epoch", "step")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not is_skipping(self.model):
            self._steps += batch - self._begun_at + 1  # several steps, if they are executed together
            for state in self._states:
                state.steps.assign(self._steps)
            self._now_unfinished("epoch")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for state in self._states:
            state.epochs.assign(self._epoch + 1)
        self._now_unfinished()

    def _obey(self) -> None:
        """Sets the switches where the count has come to; they are many variables, so only where something changes."""
        now = self._batch_norm.reached(self._epoch, self._steps), self._ranges.reached(self._epoch, self._steps)
        if now != self._frozen:
            _switch(self.model, *now)
            self._frozen = now

    def _now_unfinished(self, *what: str) -> None:
        for state in self._states:
            state.unfinished = frozenset(what)


def _moment(name: str, epoch: int | None, step: int | None) -> _Moment:
    if step is not None and isinstance(epoch, _Default):
        epoch = None
    for unit, value in (("epoch", epoch), ("step", step)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ValueError(
                f"{name}_{unit} is a whole number that counts {unit}s from 0 (None: never); got {value!r}."
            )
    if epoch is not None and step is not None:
        raise ValueError(f"Give {name}_epoch or {name}_step, not both; got epoch {epoch} and step {step}.")
    return _Moment(epoch, step)


def _check_quantized(model: Any) -> None:
    if not quantizers_of(model):
        raise ValueError("QuantizationSchedule works on a quantized model: call quantize_aware(model) before fit().")


def _switch(model: Any, batch_norm: bool, ranges: bool) -> None:
    for switch in freezes_of(model):
        switch.frozen.assign(float(batch_norm))
    for quantizer in quantizers_of(model):
        if quantizer.fixed_range is None:
            quantizer.observing.assign(float(not ranges))
