"""A channel whose kernel is all but zero, and whose bias is not: it is held in larger steps, or in 64 bits."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import DEPTHWISE_KERNEL, keras
from resnet_backbones.quantization.hooks import hooks_of
from tests.support.nets import images

layers = keras.layers
KINDS = {
    "convolution": (lambda **more: layers.Conv2D(4, 3, **more), "kernel"),
    "depthwise": (lambda **more: layers.DepthwiseConv2D(3, **more), DEPTHWISE_KERNEL),
    "separable": (lambda **more: layers.SeparableConv2D(4, 3, **more), "pointwise_kernel"),
    "transposed": (lambda **more: layers.Conv2DTranspose(4, 3, 2, **more), "kernel"),
    "dense": (lambda **more: layers.Dense(4, **more), "kernel"),
}
#: Form -> the layer's own activation, whether it has a bias, and the batch norm after it.
FORMS = {
    "biased": (None, True, None),
    "normed": (None, False, {}),
    "normed, no offset": (None, False, {"center": False}),
    "biased and normed": (None, True, {}),
    "activated, normed": ("relu", True, {}),
    "activated in steps, normed": ("silu", True, {}),
}
FACTORS = [1e-4, 1e-7, 1e-12, 0.0]
#: Each kind in each form, with one of the factors.
CASES = [(kind, form, FACTORS[(i + j) % len(FACTORS)]) for i, kind in enumerate(KINDS) for j, form in enumerate(FORMS)]
NO_16_BITS = "activated in steps, normed"  # SiLU


def with_a_tiny_channel(kind, form, factor):
    make, attribute = KINDS[kind]
    activation, biased, norm = FORMS[form]
    image = layers.Input((6, 6, 4))
    keras.utils.set_random_seed(0)
    layer = make(use_bias=biased, activation=activation, name="layer")
    tensor = layer(layers.Flatten()(image) if kind == "dense" else image)
    norm = None if norm is None else layers.BatchNormalization(**norm)
    model = keras.Model(image, tensor if norm is None else norm(tensor))
    variable = getattr(layer, attribute)
    kernel = np.asarray(variable).copy()
    axis = 2 if kind in ("depthwise", "transposed") else kernel.ndim - 1
    np.moveaxis(kernel, axis, 0)[0] *= factor
    variable.assign(kernel)
    if biased:
        layer.bias.assign([1.0, 0.1, 0.2, 0.3])
    if norm is not None:
        if norm.center:
            norm.beta.assign([1.0, 0.1, 0.2, 0.3])
        norm.moving_mean.assign([-0.5, 0.1, 0.2, 0.3] if activation is None else np.zeros(4))
        norm.moving_variance.assign([1.0 if activation else max(1e-6, factor**2), 1.0, 1.0, 1.0])
    return model


def exported(model, scheme, path, **options):
    pictures = images(8, 6, 6, 4)
    rb.quantize_post_training(model, scheme, calibration_data=pictures)
    assert all(found.added for found in hooks_of(model) if found.kernels or found.stands_alone)
    return rb.export_model(model, path, parity_data=pictures, **options)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("form", ["biased", "normed"])
@pytest.mark.parametrize("kind", KINDS)
def test_biases_fit_and_reports_pass(kind, form, factor, tmp_path):
    report = exported(with_a_tiny_channel(kind, form, factor), "edge_int8", tmp_path / "m.tflite")
    assert report.passed, report.failures
    assert report.parity[0].within_two_steps == 1.0


@pytest.mark.parametrize(("kind", "form", "factor"), CASES)
@pytest.mark.parametrize("way", ["litert", "16 bits", "onnxruntime"])
def test_whatever_the_layer_s_form_and_the_file_s(kind, form, factor, way, tmp_path):
    if way == "16 bits" and form == NO_16_BITS:
        with pytest.raises(ValueError, match="no int16 form of layer"):
            rb.quantize_aware(with_a_tiny_channel(kind, form, factor), "edge_int16x8")
        return
    scheme = "edge_int16x8" if way == "16 bits" else "edge_int8"
    path, options = (tmp_path / "m.onnx", {"target": way}) if way == "onnxruntime" else (tmp_path / "m.tflite", {})
    report = exported(with_a_tiny_channel(kind, form, factor), scheme, path, **options)
    assert report.passed, report.failures
    assert report.parity[0].within_two_steps == 1.0


@pytest.mark.parametrize("scheme", ["edge_int8", "edge_int16x8"])
@pytest.mark.parametrize("beta", [1.0, 100.0, 1e5])
def test_a_batch_norm_by_itself_with_a_channel_all_but_switched_off(beta, scheme, tmp_path):
    image = layers.Input((6, 6, 4))
    norm = layers.BatchNormalization()
    model = keras.Model(image, norm(layers.MaxPooling2D(2)(image)))
    norm.gamma.assign([1e-9, 1.0, 0.5, 2.0])
    norm.beta.assign([beta, 0.1, 0.2, 0.3])
    report = exported(model, scheme, tmp_path / "m.tflite")
    assert report.passed, report.failures
    assert report.parity[0].within_two_steps == 1.0


def test_a_batch_norm_that_is_switched_off_whole_leaves_its_shift(tmp_path):
    image = layers.Input((6, 6, 4))
    norm = layers.BatchNormalization(gamma_initializer="zeros")
    model = keras.Model(image, norm(layers.Conv2D(4, 3, use_bias=False)(image)))
    norm.beta.assign([1.0, 0.2, 0.4, 0.6])
    pictures = images(8, 6, 6, 4)
    rb.quantize_post_training(model, calibration_data=pictures)
    with np.errstate(all="raise"):
        report = rb.export_model(model, tmp_path / "m.tflite", parity_data=pictures)
    assert report.passed, report.failures
    found = rb.runtime.load(tmp_path / "m.tflite").raw(pictures)
    np.testing.assert_allclose(found["output"], np.asarray(model(pictures)), atol=1.01 / 255)  # one step


DETECTORS = {
    "retinanet": ({"head_depth": 1}, "m.tflite", {}),
    "yolo_v8_detector": ({"fpn_depth": 1}, "m.onnx", {"target": "onnxruntime"}),
}


@pytest.mark.exhaustive  # half a minute
@pytest.mark.parametrize("detector", DETECTORS)
def test_the_heads_of_an_untrained_detector_over_an_efficientnet(detector, tmp_path):
    """What reaches them is all but zero, beside biases of -4.6."""
    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone("efficientnet_lite0", input_shape=(64, 64, 3))
    given, name, options = DETECTORS[detector]
    model = getattr(rb.adapters.keras_cv, detector)(backbone, num_classes=3, bounding_box_format="xywh", **given)
    pictures = images(4, 64, 64, 3)
    rb.quantize_post_training(model, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / name, parity_data=pictures, **options)
    assert report.passed, report.failures
