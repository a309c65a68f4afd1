"""Images in other units than the model's are told of, when calibrating and in parity data; dark pictures are not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.input_units import warn_of_other_units

layers = keras.layers
SPEC = rb.ResNetSpec(block="basic", depths=(1,), widths=(8,), stem_width=8)
BYTES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
DATA = {
    "bytes": BYTES,
    "uint8": BYTES.astype("uint8"),
    "float bytes": BYTES * 0.99 + 0.3,
    "bicubic": BYTES * 1.05 - 6.3,
    "dark": np.round(BYTES / 90),
    "black": BYTES * 0,
    "ones": BYTES / 255,
    "minus one to one": BYTES / 127.5 - 1,
    "imagenet": (BYTES / 255 - MEAN) / DEVIATION,
    "16 bits": BYTES * 257,
}
OF_BYTES = {"bytes", "uint8", "float bytes", "bicubic", "dark", "black"}
OF_ONES = {"ones", "minus one to one", "imagenet", "black", "dark"}


def image():
    return layers.Input((32, 32, 3))


def begins_with(layer):
    given = image()
    return keras.Model(given, layers.Conv2D(2, 3)(layer(given)))


def nested(inner):
    given = image()
    return keras.Model(given, layers.GlobalAveragePooling2D()(inner(given)))


def backbone(preprocessing):
    return rb.create_backbone(SPEC, input_shape=(32, 32, 3), preprocessing=preprocessing)


BYTE_MODELS = {
    "imagenet": lambda: backbone("imagenet"),
    "zero to one": lambda: backbone("zero_to_one"),
    "minus one to one": lambda: nested(backbone("minus_one_to_one")),
    "rescaling": lambda: begins_with(layers.Rescaling(1 / 127.5, -1.0)),
    "nested rescaling": lambda: nested(begins_with(layers.Rescaling(1 / 255))),
    "sequential": lambda: keras.Sequential([image(), layers.Rescaling(1 / 255), layers.Conv2D(2, 3)]),
    "normalization": lambda: begins_with(layers.Normalization(mean=MEAN * 255, variance=(DEVIATION * 255) ** 2)),
}
OTHERS = {
    "normalization of 0 to 1": (lambda: begins_with(layers.Normalization(mean=MEAN, variance=DEVIATION**2)), OF_ONES),
    "rescaling to bytes": (lambda: begins_with(layers.Rescaling(255.0)), OF_ONES - {"imagenet", "dark"}),
    "caffe": (lambda: backbone("caffe_bgr"), set(DATA)),
    "no preprocessing": (lambda: backbone(None), set(DATA)),
}
MODELS = {**{name: (make, OF_BYTES) for name, make in BYTE_MODELS.items()}, **OTHERS}


@pytest.mark.parametrize("name", MODELS)
def test_other_units_warn(name):
    make, fitting = MODELS[name]
    model = make()
    told = {}
    for data, images in DATA.items():
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            warn_of_other_units(model, images, "The data")
        told[data] = [str(one.message) for one in seen]
        assert all(message.startswith("The data is between") for message in told[data])
    assert {data for data, messages in told.items() if not messages} == fitting


def test_calibration_and_parity_data_are_looked_at(tmp_path):
    model = begins_with(layers.Rescaling(1 / 255))
    with pytest.warns(UserWarning, match="The calibration data is between 0 and 1, so it looks normalised already"):
        rb.quantize_post_training(model, "edge_int8", calibration_data=DATA["ones"])
    with pytest.warns(UserWarning, match="The parity data is between 0 and 1, so it looks normalised already"):
        rb.export_model(model, tmp_path / "m.tflite", parity_data=DATA["ones"])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        rb.export_model(model, tmp_path / "m.tflite", parity_data=BYTES)
    assert not [one for one in seen if "is between" in str(one.message)]


@pytest.mark.parametrize("data", [{"images": BYTES}, np.zeros((2, 5)), np.zeros((0, 4, 4, 3))])
def test_what_is_no_batch_of_images_is_passed_over(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_units(begins_with(layers.Rescaling(1 / 255)), data, "The data")
