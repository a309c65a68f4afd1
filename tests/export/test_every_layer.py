"""A rotating sample of all kinds of layers: each exports as it is, or is refused in words that help, and in time.

``LAYERS_PART=1/1`` does all of them.
"""

from __future__ import annotations

import os
import warnings

import pytest

import resnet_backbones as rb
from resnet_backbones.errors import ExportError, raised_here
from tests.export.every_layer import IMAGES, KINDS, network

part, parts = map(int, os.environ.get("LAYERS_PART", "1/12").split("/"))
# Each was an error of a converter, or a wrong file.
ONCE_WRONG = (
    *(
        "Conv1DTranspose {'kernel_size': 3, 'dilation_rate': 2}",
        "Conv2DTranspose {'kernel_size': 3, 'dilation_rate': 2}",
    ),
    *("Conv3D {'kernel_size': 2, 'groups': 2}", "Dense on volumes", "ConvLSTM2D", "masked LSTM", "Resizing bicubic"),
    *(
        "AdaptiveAveragePooling2D",
        "AveragePooling1D",
        "AlphaDropout",
        "Discretization",
        "tf any",
        "tf cond",
        "tf random",
    ),
)
SAMPLE = list(dict.fromkeys([*list(KINDS)[part - 1 :: parts], *ONCE_WRONG]))
FILES = {"m.tflite": ("LiteRT", {}), "m.onnx": ("ONNX", {"target": "onnxruntime"})}
IN_FLOAT = ("multiply-accumulates", "counts as float")  # that a part is, and was said to be


def model_of(kind):
    model = network(kind)
    return pytest.skip("Keras cannot run it here") if model is None else model


def tried(call, *arguments, **options):
    """What a call returns, and the error it raises: one of both is ``None``."""
    try:
        return call(*arguments, **options), None
    except ValueError as error:
        return None, error


@pytest.mark.parametrize("kind", SAMPLE)
def test_in_integers_or_beside_them_or_refused_when_quantized(kind, tmp_path):
    model = model_of(kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, refusal = tried(rb.quantize_post_training, model, calibration_data=IMAGES)
    if refusal is not None:
        assert raised_here(refusal)
        assert any(words in str(refusal) for words in ("Replace", "without training=True", "replace the layer")), (
            refusal
        )
        return
    said = " ".join(str(warning.message) for warning in caught)
    for name, (file_format, how) in FILES.items():
        if f"{file_format} have no form" in said:
            with pytest.raises(ExportError):
                rb.export_model(model, tmp_path / name, parity_data=IMAGES, **how)
            continue
        report = rb.export_model(model, tmp_path / name, parity_data=IMAGES, **how)
        assert [one for one in report.failures if not any(words in one for words in IN_FLOAT)] == []
        assert report.passed or "in float" in said or kind.startswith("tf "), report.failures


@pytest.mark.parametrize("kind", SAMPLE)
def test_in_float_or_refused_by_name(kind, tmp_path):
    for name in FILES:
        model = model_of(kind)
        report, refusal = tried(rb.export_model, model, tmp_path / name, parity_data=IMAGES)
        if refusal is None:
            assert report.passed, report.failures
        else:
            named = isinstance(refusal, ExportError) and "'network/" in str(refusal)
            assert named or (raised_here(refusal) and "of 'network'" in str(refusal)), refusal
