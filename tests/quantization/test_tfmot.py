"""TFMOT's own tools on the registry's backbones, under tf_keras, and what they pruned quantized by this library."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from resnet_backbones.quantization.sparsity import KeepSparsity
from tests.support.nets import classifier
from tests.support.shrinking import shrunken
from tests.support.training import fit, int8_kernels, kernels

pytestmark = pytest.mark.skipif(IS_KERAS_3, reason="TFMOT rewrites tf_keras models only")

# Of layers that TFMOT's default 8-bit scheme knows. Not among them: batch norms with no convolution before them
# (resnetv2), Multiply (squeeze and excitation), leaky ReLU of slope 0.01 (darknet), layers of our own.
QUANTIZED = ["resnet18", "resnet50d", "mobilenetv2_100", "regnetx_002"]
# Of layers built into tf_keras: pruning knows all of those but preprocessing layers.
PRUNED = ["resnet18", "resnet50d", "mobilenetv2_100", "regnety_002", "resnetv2_18", "seresnet18", "darknet17"]
# With layers of our own, or Rescaling: each convolution is wrapped by itself.
PRUNED_BY_LAYER = ["res2net50_14w_8s", "mobilenetv3_small_100", "resnetblur18"]


@pytest.fixture(scope="module")
def tfmot():
    return pytest.importorskip("tensorflow_model_optimization")


@pytest.fixture(scope="module")
def digits():
    from digits import make_single_digits

    images, classes = make_single_digits(48, "train", canvas=32)
    return images.astype("float32") / 127.5 - 1.0, classes


def small(name):
    return classifier(shrunken(rb.backbone_info(name).spec), size=32, classes=10)


def compile_and_fit(model, digits, *callbacks, epochs=1):
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    fit(digits, model, *callbacks, batch_size=16, epochs=epochs)
    assert np.isfinite(model.history.history["loss"]).all()


@pytest.mark.parametrize("name", QUANTIZED)
def test_tfmot_quantizes_a_backbone_with_a_head(name, tfmot, digits):
    model = small(name)
    quantized = tfmot.quantization.keras.quantize_model(model)
    wrapped = [layer for layer in quantized.layers if "QuantizeWrapper" in type(layer).__name__]
    assert len(wrapped) >= len(model.layers) - 1
    if name == "resnet18":
        before = kernels_inside(quantized)
        compile_and_fit(quantized, digits)
        assert all(np.any(a != b) for a, b in zip(kernels_inside(quantized), before, strict=True))


def kernels_inside(model):
    return [w.numpy() for w in model.trainable_weights if w.shape.rank == 4]


def pruning(tfmot, model, by_layer=False):
    wrap = tfmot.sparsity.keras.prune_low_magnitude
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=0, frequency=1)
    if not by_layer:
        return wrap(model, schedule)
    prunable = (keras.layers.Conv2D, keras.layers.Dense)
    return keras.models.clone_model(
        model, clone_function=lambda layer: wrap(layer, schedule) if type(layer) in prunable else layer
    )


@pytest.mark.parametrize("name", [*PRUNED, *PRUNED_BY_LAYER])
def test_tfmot_takes_a_backbone_with_a_head_for_pruning_and_gives_it_back(name, tfmot, digits):
    model = small(name)
    expected = model(digits[0][:2], training=False).numpy()
    wrapped = pruning(tfmot, model, by_layer=name in PRUNED_BY_LAYER)
    masks = [weight for weight in wrapped.weights if "mask" in weight.name]
    assert len(masks) == len(kernels(model))
    stripped = tfmot.sparsity.keras.strip_pruning(wrapped)
    np.testing.assert_array_equal(stripped(digits[0][:2], training=False).numpy(), expected)


def test_pruned_by_tfmot_then_quantized_it_keeps_its_sparsity(tfmot, digits, tmp_path):
    model = pruning(tfmot, small("resnet18"))
    compile_and_fit(model, digits, tfmot.sparsity.keras.UpdatePruningStep())
    model = tfmot.sparsity.keras.strip_pruning(model)
    pruned = {key: kernel == 0 for key, kernel in kernels(model).items()}
    assert all(zeros.mean() >= 0.49 for zeros in pruned.values())

    rb.quantize_aware(model, calibration_data=digits[0][:16])
    compile_and_fit(model, digits, rb.QuantizationSchedule(), KeepSparsity())
    trained = kernels(model)
    for key, zeros in pruned.items():
        np.testing.assert_array_equal(trained[key] == 0, zeros)

    rb.export_model(model, tmp_path / "sparse.tflite", parity_data=digits[0][:4])
    exported = sorted((kernel.size, (kernel == 0).sum()) for kernel in int8_kernels(tmp_path / "sparse.tflite"))
    expected = sorted((kernel.size, (kernel == 0).sum()) for kernel in trained.values())
    for (size, zeros), (same_size, at_least) in zip(exported, expected, strict=True):
        assert size == same_size
        assert zeros >= at_least
