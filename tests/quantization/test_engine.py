"""Quantizing whole models in place."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import Scheme, hooks_of, quantization_of, quantizers_of
from resnet_backbones.quantization.quantizers import ActivationQuantizer, BatchNormFreeze
from resnet_backbones.quantization.schedule_state import ScheduleState
from tests.support.nets import SPEC

layers = keras.layers


def every_range(model):
    return {q.name: q.range() for q in quantizers_of(model)}


def test_it_works_in_place_and_changes_little_once_calibrated(classifier, images):
    before = classifier(images, training=False).numpy()
    assert rb.quantize_aware(classifier, calibration_data=images) is classifier
    after = classifier(images, training=False).numpy()
    assert 0 < np.abs(after - before).max() < 0.1
    assert all(q.has_range for q in quantizers_of(classifier))


def test_every_convolution_and_dense_kernel_is_quantized(classifier, images):
    rb.quantize_aware(classifier)
    hooked = {hook.layer.name for hook in hooks_of(classifier) if hook.kernels}
    weighted = {
        layer.name for layer in classifier._flatten_layers() if isinstance(layer, (layers.Conv2D, layers.Dense))
    }
    assert hooked == weighted


def test_kernels_take_at_most_255_values_a_channel(images):
    image = layers.Input((64, 64, 3))
    model = keras.Model(image, layers.Conv2D(2, 9, use_bias=False, name="conv")(image))
    rb.quantize_aware(model)
    impulse = np.zeros((1, 64, 64, 3), "float32")
    impulse[0, 32, 32, 0] = 1.0
    rb.calibrate(model, impulse)
    model.get_layer("conv").quantizer_output_0.range_min.assign(-1e3)  # a range so wide that it hides nothing is
    kernel = model.get_layer("conv").get_weights()[0]
    ((variable, quantize),) = hooks_of(model)[-1].kernels.values()
    steps = quantize(variable).numpy() / (np.abs(kernel).max(axis=(0, 1, 2)) / 127)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_an_unbuilt_model_is_refused():
    class Lazy(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(2, 3)

        def call(self, inputs):
            return self.conv(inputs)

    with pytest.raises(ValueError, match="not built"):
        rb.quantize_aware(Lazy())


def test_a_subclassed_model_is_quantized_once_it_was_called(images):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Conv2D(4, 3, padding="same", activation="relu")
            self.second = layers.Conv2D(4, 3, padding="same")

        def call(self, inputs):
            x = self.first(inputs)
            return self.second(x) + x

    model = Subclassed()
    before = model(images).numpy()
    rb.quantize_aware(model, calibration_data=images)
    assert {hook.layer for hook in hooks_of(model)} == {model.first, model.second}
    assert 0 < np.abs(model(images).numpy() - before).max() < 0.2


def test_quantizing_again_with_the_same_scheme_keeps_the_ranges(classifier, images):
    rb.quantize_aware(classifier, calibration_data=images)
    ranges, output = every_range(classifier), classifier(images).numpy()
    rb.quantize_aware(classifier, "edge_int8")
    assert every_range(classifier) == ranges
    np.testing.assert_array_equal(classifier(images).numpy(), output)


def test_quantizing_again_with_another_scheme_is_refused(classifier):
    rb.quantize_aware(classifier)
    with pytest.raises(ValueError, match="already quantized with scheme 'edge_int8'"):
        rb.quantize_aware(classifier, Scheme("other", kernel_bits=4))


def test_a_quantized_backbone_is_completed_by_its_scheme_and_no_other(images):
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3), quantization="edge_int8")
    rb.calibrate(backbone, images)
    ranges = every_range(backbone)
    x = layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, layers.Dense(3, name="head")(x))
    with pytest.raises(ValueError, match="already quantized"):
        rb.quantize_aware(model, Scheme("other", kernel_bits=4))
    rb.quantize_aware(model)
    assert ranges.items() <= every_range(model).items()
    assert any(hook.layer.name == "head" for hook in hooks_of(model))


def test_activations_without_int8_form_are_named_in_a_warning():
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3), activation="elu")
    with pytest.warns(UserWarning, match="'elu' has no int8 form"):
        rb.quantize_aware(backbone)


def test_excluded_layers_stay_float(classifier):
    rb.quantize_aware(classifier, exclude=["head", "stage4*"])
    kernels = {hook.layer.name for hook in hooks_of(classifier) if hook.kernels}
    assert "head" not in kernels
    assert not any(name.startswith("stage4") for name in kernels)
    assert any(name.startswith("stage3") for name in kernels)


def test_nothing_to_quantize_is_an_error():
    image = layers.Input((8,))
    model = keras.Model(image, layers.LayerNormalization()(image))
    with pytest.raises(ValueError, match="no layer"):
        rb.quantize_aware(model)


def test_calibration_takes_arrays_data_sets_and_generators(classifier, images):
    rb.quantize_aware(classifier, calibration_data=images)
    expected = every_range(classifier)
    data_set = tf.data.Dataset.from_tensor_slices((images, np.zeros(len(images)))).batch(2)
    for data in (data_set, ({"images": images[i : i + 1]} for i in range(len(images)))):
        rb.calibrate(classifier, data)
        found = every_range(classifier)
        for name, range_ in expected.items():
            assert found[name] == pytest.approx(range_, abs=1e-4)


def test_calibration_leaves_weights_and_statistics_alone(classifier, images):
    weights = [w.numpy() for w in classifier.weights]
    rb.quantize_aware(classifier, calibration_data=images)
    helpers = (ActivationQuantizer, BatchNormFreeze, ScheduleState)
    added = {id(w) for layer in classifier._flatten_layers() if isinstance(layer, helpers) for w in layer.weights}
    after = [w for w in classifier.weights if id(w) not in added]
    assert len(after) == len(weights)
    by_shape = sorted((w.numpy().tobytes() for w in after), key=hash)
    assert by_shape == sorted((w.tobytes() for w in weights), key=hash)


def test_empty_or_missing_calibration_data_is_an_error(classifier):
    with pytest.raises(ValueError, match="calibration_data"):
        rb.quantize_post_training(classifier, calibration_data=None)
    rb.quantize_aware(classifier)
    with pytest.raises(ValueError, match="empty"):
        rb.calibrate(classifier, [])


def test_a_float_model_cannot_be_calibrated(classifier, images):
    with pytest.raises(ValueError, match="not quantized"):
        rb.calibrate(classifier, images)


def test_training_goes_on_and_moves_weights_and_ranges(classifier, images):
    rb.quantize_aware(classifier, calibration_data=images)
    ranges = every_range(classifier)
    kernel = classifier.get_layer("stem_conv1").get_weights()[0]
    classifier.fit(images, np.array([0, 1, 2, 0]), epochs=1, verbose=0)
    assert np.any(classifier.get_layer("stem_conv1").get_weights()[0] != kernel)
    assert every_range(classifier) != ranges


def test_fake_quantization_is_in_float32_under_mixed_precision(images):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    rb.quantize_aware(backbone, calibration_data=images)
    output = backbone(images, training=False)
    assert output.dtype == tf.bfloat16
    assert all(w.dtype in ("float32", tf.float32) for q in quantizers_of(backbone) for w in q.weights)
    hook = next(hook for hook in hooks_of(backbone) if hook.kernels)
    ((variable, quantize),) = hook.kernels.values()
    assert quantize(variable).dtype == tf.float32
    assert np.isfinite(tf.cast(output, tf.float32).numpy()).all()


def test_what_was_quantized_is_on_the_model(classifier):
    assert quantization_of(classifier) is None
    rb.quantize_aware(classifier, exclude=["head"])
    facts = quantization_of(classifier)
    assert facts["scheme"]["name"] == "edge_int8"
    assert facts["exclude"] == ["head"]
