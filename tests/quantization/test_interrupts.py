"""An interrupt (Ctrl-C) at any moment leaves a model as it was, and the next call works."""

from __future__ import annotations

import gc
import inspect
import random
import sys

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import context, quantizers_of
from resnet_backbones.quantization.calibration import calibrate
from resnet_backbones.quantization.hooks import hooks_of
from tests.support.nets import images

layers = keras.layers
IMAGES = images(6, 8, 8, 3)
POINTS = 5


def floating():
    image = layers.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(image)))
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def quantized():
    return rb.quantize_post_training(floating(), "portable_int8", calibration_data=IMAGES)


WORK = {
    "quantize": (floating, lambda model, _: rb.quantize_post_training(model, calibration_data=IMAGES)),
    "calibrate": (quantized, lambda model, _: calibrate(model, 3 * IMAGES, "mse")),
    "summary": (quantized, lambda model, _: rb.quantization_summary(model)),
    "analyse": (quantized, lambda model, _: rb.quantization.analyse(model, IMAGES)),
    "export .tflite": (quantized, lambda model, folder: rb.export_model(model, folder / "m.tflite")),
    "export .onnx": (quantized, lambda model, folder: rb.export_model(model, folder / "m.onnx")),
    "export .keras": (quantized, lambda model, folder: rb.export_model(model, folder / "m.keras")),
    "export a folder": (quantized, lambda model, folder: rb.export_model(model, folder / "m", precision="float32")),
}


def calls_of_ours(work, interrupted_at=None):
    """How many functions of the library ``work`` called; the one of that number raises KeyboardInterrupt in place."""
    count = 0
    gc.collect()  # what other tests left is called too, as long as it lives

    def watch(frame, event, _):
        nonlocal count
        if frame.f_code.co_flags & inspect.CO_GENERATOR:  # Python drops what is raised where one is closed
            return
        if event == "call" and frame.f_globals.get("__name__", "").startswith("resnet_backbones"):
            count += 1
            if count == interrupted_at:
                sys.setprofile(None)
                raise KeyboardInterrupt

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def facts(model):
    return {
        "class": type(model),
        "attributes": [  # but for those in which TensorFlow notes what it tracks
            sorted(name for name in layer.__dict__ if not name.startswith("_self_"))
            for layer in model._flatten_layers()
        ],
        "calls": [layer.__dict__.get("call") for layer in model._flatten_layers()],
        "hooks": len(hooks_of(model)),
        "context": context.now(),
        "arrays": [array.tolist() for array in (*model.get_weights(), np.asarray(model(IMAGES, training=False)))],
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WORK)
def test_the_model_is_as_it_was(name, tmp_path):
    make, work = WORK[name]
    (tmp_path / "before").mkdir()
    (tmp_path / "interrupted").mkdir()
    work(make(), tmp_path / "before")  # what is imported and made once counts no more
    model = make()
    count = calls_of_ours(lambda: work(model, tmp_path / "before"))
    model = make()
    before = facts(model)
    for at in random.Random(0).sample(range(1, int(0.9 * count)), POINTS):
        with pytest.raises(KeyboardInterrupt):
            calls_of_ours(lambda: work(model, tmp_path / "interrupted"), at)
        assert facts(model) == before, at
        assert not list((tmp_path / "interrupted").iterdir()), at
    work(model, tmp_path / "interrupted")


@pytest.mark.parametrize("part", [0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_stripping_is_done_whole_or_not_at_all(part):
    model = quantized()
    at = 1 + int(part * calls_of_ours(lambda: rb.strip_quantization(model)))
    model = quantized()
    before, arrays = facts(model), [array.tolist() for array in floating().get_weights()]
    with pytest.raises(KeyboardInterrupt):
        calls_of_ours(lambda: rb.strip_quantization(model), at)
    if quantizers_of(model):
        assert facts(model) == before
    else:
        assert type(model) is type(floating())
        assert not hooks_of(model)
        assert [np.shape(array) for array in model.get_weights()] == [np.shape(array) for array in arrays]
        assert not any("call" in layer.__dict__ for layer in model._flatten_layers())
