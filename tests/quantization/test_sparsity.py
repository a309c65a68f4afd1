"""Pruned kernels stay pruned: through quantization, training and export."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.backup import TrainingBackup
from resnet_backbones.quantization.sparsity import KeepSparsity, sparsity
from tests.support import training
from tests.support.training import digits, int8_kernels, kernels, prune, tiny_classifier

IMAGES, LABELS = digits(64)
fit = functools.partial(training.fit, (IMAGES, LABELS), batch_size=16, epochs=2)


def pruned(**arguments):
    """Trained a little, then half of each kernel set to zero."""
    adam = keras.optimizers.Adam(0.01)
    return prune(fit(tiny_classifier(filters=8, optimizer=adam, **arguments)))


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "quantized"])
def test_zeros_stay_and_everything_else_trains(quantized):
    model = pruned()
    before = kernels(model)
    if quantized:
        rb.quantize_aware(model, calibration_data=IMAGES)
    fit(model, KeepSparsity())
    for name, kernel in kernels(model).items():
        assert (kernel == 0).mean() == (before[name] == 0).mean() >= 0.5
        np.testing.assert_array_equal(kernel == 0, before[name] == 0)
        assert np.all(kernel[kernel != 0] != before[name][kernel != 0])


def test_without_it_training_moves_the_zeros():
    model = fit(pruned())
    assert max(sparsity(model).values()) < 0.1


def test_quantization_and_the_exported_file_keep_every_zero(tmp_path):
    model = pruned()
    zeros = {name: kernel == 0 for name, kernel in kernels(model).items()}
    rb.quantize_aware(model, calibration_data=IMAGES)
    fit(model, rb.QuantizationSchedule(), KeepSparsity(), epochs=3)
    rb.export_model(model, tmp_path / "sparse.tflite", parity_data=IMAGES[:8])
    exported = int8_kernels(tmp_path / "sparse.tflite")
    assert len(exported) == len(zeros) == 3
    for (name, pruned_here), kernel in zip(zeros.items(), exported, strict=True):
        kernel = kernel.reshape(pruned_here.shape)
        assert np.all(kernel[pruned_here] == 0), name
        assert (kernel[~pruned_here] != 0).mean() > 0.9, name


def test_a_resumed_training_keeps_the_zeros_of_its_backup(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    model = pruned()
    zeros = {name: kernel == 0 for name, kernel in kernels(model).items()}
    with pytest.raises(KeyboardInterrupt):
        fit(model, Stop(), KeepSparsity(), TrainingBackup(tmp_path))
    again = tiny_classifier(filters=8, optimizer=keras.optimizers.Adam(0.01))  # never pruned, until it is restored
    fit(again, KeepSparsity(), TrainingBackup(tmp_path))
    for name, kernel in kernels(again).items():
        np.testing.assert_array_equal(kernel == 0, zeros[name])


def test_a_kernel_of_zeros_alone_was_not_pruned_and_trains():
    model = pruned()
    head = model.get_layer("head")
    head.kernel.assign(np.zeros(head.kernel.shape))
    fit(model, KeepSparsity())
    assert np.all(np.array(head.kernel) != 0)


def test_a_model_without_zeros_is_refused():
    with pytest.raises(ValueError, match="prune the model first"):
        fit(tiny_classifier(), KeepSparsity())


def test_sparsity_tells_the_share_of_zeros_of_each_kernel():
    shares = sparsity(prune(tiny_classifier(filters=8), 0.75))
    assert len(shares) == 3
    assert all(share == pytest.approx(0.75, abs=0.02) for share in shares.values())
