"""Kernels that were pruned stay pruned while they train."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from resnet_backbones.keras_compat import float32_variable, keras


class KeepSparsity(keras.callbacks.Callback):
    """Keeps the zeros of pruned kernels at zero while a model, float or quantized, trains.

    Pruning leaves exact zeros, and so does quantization: kernels are symmetric, zero is a value of theirs. Training
    would move them. This callback notes where kernels are exactly zero when ``fit`` begins its first epoch, and puts
    the zeros back after each batch, before they are used again. (With ``steps_per_execution`` larger than one, after
    each execution.) It works in both Kerases and whatever did the pruning, such as
    ``tfmot.sparsity.keras.prune_low_magnitude`` and ``strip_pruning``.

    Kernels are all trainable variables of two axes and more; offsets and batch norms are left alone. A kernel that is
    all zeros, such as one initialised so, is no pruned kernel and trains freely.

    Raises:
        ValueError: at ``fit``, no kernel holds a zero: there is nothing to keep.

    Example:
        >>> pruned = tfmot.sparsity.keras.strip_pruning(pruned)
        >>> quantize_aware(pruned, calibration_data=images)
        >>> pruned.fit(train, epochs=3, callbacks=[QuantizationSchedule(), KeepSparsity()])

    Source: Zhu and Gupta, "To prune, or not to prune", 2017, https://arxiv.org/abs/1710.01878
    """

    def on_train_begin(self, logs: Any = None) -> None:
        self._put_zeros_back: Any = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._put_zeros_back is None:  # not in on_train_begin: a callback listed later may restore weights there
            self._put_zeros_back = _keeper(self.model)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._put_zeros_back()


def sparsity(model: Any) -> dict[str, float]:
    """How sparse a model's kernels are.

    Args:
        model: a built model.

    Returns:
        Name of each trainable kernel (two axes and more) -> share of its values that are exactly zero, 0 to 1.

    Example:
        >>> min(sparsity(model).values())
    """
    shares: dict[str, float] = {}
    for number, variable in enumerate(model.trainable_variables):
        if len(variable.shape) >= 2:
            name = getattr(variable, "path", variable.name)
            name = f"{name}#{number}" if name in shares else name
            shares[name] = float((float32_variable(variable).numpy() == 0).mean())
    return shares


def _keeper(model: Any) -> Any:
    """A function that sets to zero what is zero in the model's kernels now."""
    pruned = []
    for variable in map(float32_variable, model.trainable_variables):
        zeros = variable.numpy() == 0 if len(variable.shape) >= 2 else None
        if zeros is not None and zeros.any() and not zeros.all():
            pruned.append((variable, tf.constant(zeros)))
    if not pruned:
        raise ValueError(
            f"KeepSparsity found no zeros in the kernels of {model.name!r}: prune the model first (and strip the "
            "pruning wrappers), or leave this callback out."
        )

    def put_back():
        for variable, zeros in pruned:
            variable.assign(tf.where(zeros, tf.zeros_like(variable), variable))

    return tf.function(put_back, autograph=False)
