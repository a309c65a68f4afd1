"""Quantized models saved as .h5 and SavedModel: what loads, equal outputs, and what load_model says of the others."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras, keras_name
from resnet_backbones.quantization import quantizers_of
from tests.support.nets import images
from tests.sweeps.saved_models import IMAGES as SCENES
from tests.sweeps.saved_models import TASKS, changed_model

ROOT = Path(__file__).resolve().parents[2]
IMAGES = images(8, 16, 16, 3)
IS_KERAS_3 = keras_name().startswith("Keras 3")
layers = keras.layers


@pytest.fixture(scope="module")
def model():
    image = layers.Input((16, 16, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(image)))
    built = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    return rb.quantize_post_training(built, calibration_data=IMAGES)


def outputs(model):
    return np.asarray(model(IMAGES, training=False))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_h5(model, tmp_path):
    model.save(tmp_path / "m.h5")
    with pytest.raises(ValueError, match=r"is an HDF5 file.*keras\.models\.load_model.*on Keras 3 only"):
        rb.load_model(tmp_path / "m.h5")
    if IS_KERAS_3:
        loaded = keras.models.load_model(tmp_path / "m.h5")
        assert len(quantizers_of(loaded)) == len(quantizers_of(model)) > 0
        np.testing.assert_array_equal(outputs(loaded), outputs(model))
    else:
        with pytest.raises(ValueError, match="Unknown object"):
            keras.models.load_model(tmp_path / "m.h5")


def test_saved_model(model, tmp_path):
    model.export(str(tmp_path / "m"))
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_allclose(loaded.serve(IMAGES), outputs(model), atol=1e-6)
    with pytest.raises(ValueError, match=r"is a folder.*tf\.saved_model\.load"):
        rb.load_model(tmp_path / "m")
    with pytest.raises(ValueError, match="format 'savedmodel' has no int8"):
        rb.export_model(model, tmp_path / "ours")


def backbone():
    spec = rb.ResNetSpec(block="basic", depths=(1,), widths=(8,), stem_width=8)
    made = rb.create_backbone(spec, input_shape=(16, 16, 3))
    made.layers[3].trainable = False
    return made


def wrapped(kind):
    """A backbone by ``rb.from_model`` with a frozen layer."""
    image = layers.Input((16, 16, 3))
    first = layers.Conv2D(4, 3, 2, "same", name="first", trainable=False)
    last = layers.Conv2D(4, 3, 2, "same", name="last")
    if kind == "sequential":
        made = keras.Sequential([image, first, layers.ReLU(), last])
    elif kind == "pyramid":
        x = layers.Conv2D(4, 3, 2, "same")(image)
        made = keras.Model(image, [last(x), first(image)])
    else:
        made = keras.Model(image, last(layers.ReLU()(layers.BatchNormalization()(first(image)))))
    return rb.from_model(made, {"P1": "first", "P2": "last"}, name=f"{kind}_backbone")


def nested(kind):
    made = wrapped(kind)
    return keras.Model(image := layers.Input((16, 16, 3)), layers.Dense(3)(layers.Flatten()(made(image))))


def of_every_kind():
    yield from (backbone(), wrapped("plain").feature_extractor(), tf_keras_model(), nested("sequential"))
    yield from (rb.adapters.keras_cv.image_classifier(wrapped("plain"), num_classes=3), wrapped("pyramid"))


def flags(model):
    return [(one.name, one.trainable) for one in model._flatten_layers()]


@pytest.mark.skipif(IS_KERAS_3, reason="Keras 3 has no save_format")
def test_float_models_are_saved_models_of_tf_keras(tmp_path):
    for number, model in enumerate(of_every_kind()):
        model.save(tmp_path / str(number), save_format="tf")
        loaded = keras.models.load_model(tmp_path / str(number))
        assert type(loaded) is type(model)
        assert flags(loaded) == flags(model)
        expected = tf.nest.flatten(model(IMAGES, training=False))
        for one, other in zip(tf.nest.flatten(loaded(IMAGES, training=False)), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
        if isinstance(model, rb.Backbone):
            assert loaded.feature_info == model.feature_info


@pytest.mark.skipif(IS_KERAS_3, reason="Keras 3 has no save_format")
def test_saved_models_of_tf_keras_are_refused_of_quantized_ones(model, tmp_path):
    said = r"is quantized: keras\.models\.load_model cannot load.*model\.export\(folder\).*model\.save\('name\.keras'\)"
    for quantized in (model, rb.quantize_post_training(backbone(), calibration_data=IMAGES)):
        for how in ({"save_format": "tf"}, {}):
            with pytest.raises(NotImplementedError, match=said):
                quantized.save(tmp_path / "m", **how)
        assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match=said):  # not a method of the model
        keras.models.save_model(model, tmp_path / "m", save_format="tf")
    (found,) = tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"](tf.constant(IMAGES)).values()
    np.testing.assert_allclose(found, outputs(model), atol=1e-6)


SAVED = {
    'model.save("x.keras")': "test_saving.py",
    'model.save("x.h5")': "test_h5",
    'model.save_weights("x.weights.h5")': "test_weights_in_h5",
    'model.export("folder")': "test_saved_model",
    'model.save("folder", save_format="tf")': "test_saved_models_of_tf_keras_are_refused_of_quantized_ones",
    'rb.export_model(model, "folder")': "test_saved_model",
    "copy.deepcopy(model)": "test_saving.py",
    "keras.models.clone_model(model)": "test_clone_model",
}


def test_the_table_of_the_documentation_is_tested():
    """Every row of the table in docs/quantization.md has a test here."""
    page = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
    section = page.partition("## Saving")[2].partition("##")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    said = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(said) == sorted(SAVED)
    for test in SAVED.values():
        assert test in globals() or Path(__file__).with_name(test).exists()


def tf_keras_model():
    image = layers.Input((16, 16, 3))
    return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))))


@pytest.mark.parametrize("make", [backbone, tf_keras_model])
def test_clone_model(make):
    """A copy computes the same, quantized too, or is refused; the model stays what it was."""
    model = make()
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(outputs(copy), outputs(model), atol=1e-6)
    rb.quantize_post_training(model, calibration_data=IMAGES)
    before, expected, places = model.get_weights(), outputs(model), len(quantizers_of(model))
    if IS_KERAS_3:
        with pytest.raises(NotImplementedError, match=r"use copy\.deepcopy\(model\) or save and load it"):
            keras.models.clone_model(model)
    else:
        copy = keras.models.clone_model(model)
        copy.set_weights(before)
        np.testing.assert_allclose(outputs(copy), expected, atol=1e-6)
        assert len(quantizers_of(copy)) == places
    assert len(quantizers_of(model)) == places
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(outputs(model), expected)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_clone_model_of_every_task(task, quantized):
    """It computes the same, or the error says what to do; the model is what it was."""
    model = changed_model(task, "resnet", "nothing", quantized)
    before, places = model.get_weights(), len(quantizers_of(model))
    expected = tf.nest.flatten(model(SCENES, training=False))
    if quantized and IS_KERAS_3:
        with pytest.raises(NotImplementedError, match=r"use copy\.deepcopy\(model\) or save and load it"):
            keras.models.clone_model(model)
    else:
        copy = keras.models.clone_model(model)
        copy.set_weights(before)
        found = tf.nest.flatten(copy(SCENES, training=False))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        assert len(quantizers_of(copy)) == places
    assert len(quantizers_of(model)) == places
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(tf.nest.flatten(model(SCENES, training=False)), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore")
def test_weights_in_h5(model, tmp_path):
    model.save_weights(tmp_path / "m.weights.h5")
    expected = outputs(model)
    before = model.get_weights()
    model.set_weights([value + 1 for value in before])
    model.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(outputs(model), expected)
    with pytest.raises(ValueError, match="is an HDF5 file"):
        rb.load_model(tmp_path / "m.weights.h5")
