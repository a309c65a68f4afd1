"""What cannot be exported to ONNX says so, and what to do."""

from __future__ import annotations

import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras


def small(scheme, pictures, **options):
    inputs = keras.Input((64, 64, 3))
    outputs = keras.layers.Conv2D(4, 3, activation="relu", name="first")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1, name="second")(outputs))
    rb.quantize_post_training(model, scheme, calibration_data=pictures, **options)
    return model


def test_asymmetric_ranges_for_tensorrt(edge_backbone, tmp_path):
    with pytest.raises(ValueError, match="zero points.*'gpu_int8'.*'portable_int8'.*onnxruntime"):
        rb.export_model(edge_backbone, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_ranges_of_other_bits(pictures, tmp_path):
    model = small("portable_int8", pictures, override={"first": {"activation_bits": 4}})
    with pytest.raises(ValueError, match=r"8 bits; .*first.* have other bits"):
        rb.export_model(model, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"target": "openvino"}, "target='openvino' is"), ({"layout": "CHW"}, "layout='CHW' is"), ({"batch": 0}, "batch")],
)
def test_unknown_choices(options, message, edge_backbone, tmp_path):
    with pytest.raises(ValueError, match=message):
        rb.export_model(edge_backbone, tmp_path / "a.onnx", **options)


def test_operation_that_onnx_does_not_have(tmp_path):
    class Bessel(keras.layers.Layer):
        def call(self, inputs):
            return tf.math.special.bessel_i0(inputs)

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, Bessel()(inputs))
    with pytest.raises(ValueError, match="has no form of BesselI0"):
        rb.export_model(model, tmp_path / "a.onnx")
