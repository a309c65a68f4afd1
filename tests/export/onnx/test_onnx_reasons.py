"""Why operators of a quantized file compute in float, as its report says."""

from __future__ import annotations

import dataclasses

import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import get_scheme
from tests.support.nets import images

layers = keras.layers
BY_SCHEME = (
    "'gpu_int8' leaves the last layer of each head in float; "
    "get_scheme('gpu_int8').replace(float_outputs=False) quantizes it"
)


def two_heads():
    """One head returns what its last convolution makes, the other a sigmoid and a reshape behind it."""
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="trunk")(image)
    boxes = layers.Conv2D(4, 1, name="boxes")(layers.Conv2D(8, 1, activation="relu", name="tower")(x))
    scores = layers.Conv2D(4, 3, name="scores")(x)
    scores = layers.Reshape((-1, 4), name="flat")(layers.Activation("sigmoid", name="gate")(scores))
    return keras.Model(image, {"boxes": boxes, "scores": scores}, name="net")


def reasons(tmp_path, scheme, **options):
    batch = images(2, 16, 16, 3)
    model = rb.quantize_post_training(two_heads(), scheme, calibration_data=batch, **options)
    report = rb.export_model(model, tmp_path / "net.onnx")
    found = [reason.split(": ", 1) for reason in report.float_operators.values()]
    return report, dict(found)


def test_heads_are_in_float_by_the_scheme_and_how_to_have_them_in_int8(tmp_path):
    report, found = reasons(tmp_path, "gpu_int8")
    assert found["Conv"] == BY_SCHEME
    assert found["Sigmoid"] == found["Reshape"] == "it reads what net/scores computes in float"
    assert report.operators["Conv", "float32"] == 2
    report.save(tmp_path / "net.md")
    assert BY_SCHEME in (tmp_path / "net.md").read_text()


def test_done_as_it_says_they_are_in_int8(tmp_path):
    report, found = reasons(tmp_path, get_scheme("gpu_int8").replace(float_outputs=False))
    assert report.int8_mac_share == 1.0
    assert "Conv" not in found
    assert not any("head" in reason for reason in found.values())


@pytest.mark.parametrize("scheme", ["gpu_int8", "portable_int8"])
def test_an_excluded_layer_is_named_by_its_pattern(scheme, tmp_path):
    report, _ = reasons(tmp_path, scheme, exclude=["scor*"])
    assert "Conv: excluded by 'scor*'" in report.float_operators.values()


def test_what_is_in_float_by_choice_counts_neither_for_nor_against(tmp_path):
    report, _ = reasons(tmp_path, "gpu_int8")
    assert report.chosen_float_mac_share > 0.4
    assert report.int8_mac_share + report.chosen_float_mac_share == pytest.approx(1.0)
    assert report.passed
    assert f"{100 * report.chosen_float_mac_share:.2f} % in float by choice" in str(report)


def test_what_is_in_float_without_having_been_asked_for_fails(tmp_path):
    report, _ = reasons(tmp_path, "gpu_int8")
    by_accident = {output: dataclasses.replace(why, chosen=False) for output, why in report.float_reasons.items()}
    report = dataclasses.replace(report, float_reasons=by_accident)
    assert report.chosen_float_mac_share == 0.0
    (failure,) = report.failures
    assert "of the multiply-accumulates are in int8, 99 % are wanted" in failure
