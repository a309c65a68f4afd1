"""Sums and differences of 16-bit values whose ranges end at powers of two, which LiteRT has a narrower kernel for."""

from __future__ import annotations

import pytest
from ai_edge_litert import schema_py_generated as schema

import resnet_backbones as rb
from resnet_backbones.export.litert.flatbuffer import kind_of, read_model
from resnet_backbones.export.litert.general_sums import with_general_sums
from resnet_backbones.keras_compat import keras
from tests.support.nets import images

layers = keras.layers
PICTURES = images(4, 6, 6, 3)
SUMS = {
    "with itself": lambda x, y, most: layers.Add()([x, x]),
    "bare": lambda x, y, most: x + x,
    "of two": lambda x, y, most: layers.Add()([x, y]),
    "of three": lambda x, y, most: layers.Add()([x, y, x]),
    "clipped": lambda x, y, most: layers.ReLU(most)(x + y),
    "with a number": lambda x, y, most: x + most,
    "a number before": lambda x, y, most: 2 * most - x,
    "difference": lambda x, y, most: layers.Subtract()([x, y]),
    "bare difference": lambda x, y, most: y - x,
    "product": lambda x, y, most: x * y,
    "of sums": lambda x, y, most: (x + y) - (x + x),
}


def exported(most, path):
    """Convolutions above the limits, so that the ranges of all that is summed end there."""
    keras.utils.set_random_seed(0)
    image = layers.Input((6, 6, 3))

    def limited(limit):
        kernel = keras.initializers.RandomNormal(0.0, 4.0 * most)
        return layers.ReLU(limit)(layers.Conv2D(4, 3, kernel_initializer=kernel)(image))

    model = keras.Model(image, [form(limited(most), limited(2 * most), most) for form in SUMS.values()])
    rb.quantize_post_training(model, "edge_int16x8", calibration_data=PICTURES)
    return rb.export_model(model, path, parity_data=PICTURES)


@pytest.mark.parametrize("most", [2.0**-9, 0.125, 0.25, 0.5, 1.0, 2.0, 8.0, 32.0, 0.3, 6.0])
def test_sums(most, tmp_path):
    report = exported(most, tmp_path / "m.tflite")
    assert report.passed, report
    assert not report.float_operators
    assert min(part.cosine for part in report.parity) > 0.99999


def test_other_files_stay_as_they_are(tmp_path):
    exported(0.3, tmp_path / "other.tflite")
    data = (tmp_path / "other.tflite").read_bytes()
    assert with_general_sums(data) is data
    exported(0.5, tmp_path / "m.tflite")
    model = read_model((tmp_path / "m.tflite").read_bytes())
    adds = [one for one in model.subgraphs[0].operators if kind_of(model, one) == schema.BuiltinOperator.ADD]
    assert [one.builtinOptions.potScaleInt16 for one in adds].count(False) >= 4
    assert {model.operatorCodes[one.opcodeIndex].version for one in adds} == {3}
