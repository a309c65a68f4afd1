"""Changes of scale between integers are exact in LiteRT, whose CPU engine has a coarse factor for them."""

from __future__ import annotations

import pytest

import resnet_backbones as rb
from resnet_backbones.export.litert.exact_scales import with_exact_scales
from resnet_backbones.keras_compat import keras
from tests.support.nets import images

layers = keras.layers
JOINED = {
    "concatenation": layers.Concatenate,
    "maximum": layers.Maximum,
    "minimum": layers.Minimum,
}


def conv(tensor, **options):
    return layers.Conv2D(6, 3, padding="same", **options)(tensor)


@pytest.mark.parametrize("kind", JOINED)
@pytest.mark.parametrize("scheme", ["edge_int8", "portable_int8"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_what_is_joined_in_another_scale_is_what_keras_computes(activation, scheme, kind, tmp_path):
    keras.utils.set_random_seed(0)
    image = layers.Input((12, 12, 3))
    narrow, wide = conv(image, activation=activation), conv(image)
    model = keras.Model(image, [conv(JOINED[kind]()([narrow, wide])), conv(narrow), conv(wide)])
    pictures = images(8, 12, 12, 3)
    rb.quantize_post_training(model, scheme, calibration_data=pictures)
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=pictures)
    assert report.passed, report
    assert max(one.mean_steps for one in report.parity) < 0.01, report.parity
    kinds = [operator.kind for operator in report.census.operators]
    assert "QUANTIZE" not in kinds, kinds
    assert "MUL" in kinds, kinds
    assert report.census.int8_share == 1.0


def test_what_changes_no_scale_is_left_alone(tmp_path):
    image = layers.Input((12, 12, 3))
    model = keras.Model(image, conv(conv(image)))
    rb.quantize_post_training(model, "edge_int8", calibration_data=images(8, 12, 12, 3))
    data = rb.export_model(model, tmp_path / "m.tflite").path.read_bytes()
    assert with_exact_scales(data) is data
