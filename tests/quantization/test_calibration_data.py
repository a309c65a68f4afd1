"""Calibration data of any kind: endless, of several inputs, of models that take no images; and interrupts."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras, keras_name
from resnet_backbones.quantization import calibration, quantize_post_training, quantizers_of
from resnet_backbones.quantization.calibration import calibrate, image_batches
from resnet_backbones.quantization.quantizers import ActivationQuantizer

RANDOM = np.random.default_rng(0)
layers = keras.layers
IMAGES, FACTS = RANDOM.normal(size=(20, 8, 8, 3)).astype("float32"), RANDOM.normal(size=(20, 5)).astype("float32")


def of_vectors():
    inputs = layers.Input((5,))
    return keras.Model(inputs, layers.Dense(4)(layers.Dense(8, activation="relu")(inputs)))


def of_audio():
    inputs = layers.Input((64, 1))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(layers.Conv1D(8, 3)(inputs))))


def of_tokens():
    inputs = layers.Input((12,), dtype="int32")
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(layers.Embedding(50, 8)(inputs))))


def of_two():
    image, facts = layers.Input((8, 8, 3), name="images"), layers.Input((5,), name="facts")
    seen = layers.Flatten()(layers.Conv2D(4, 3)(image))
    return keras.Model([image, facts], layers.Dense(2)(layers.Concatenate()([seen, layers.Dense(3)(facts)])))


def of_images():
    image = layers.Input((8, 8, 3))
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))))


READ = r"PIL\.Image\.open\(path\)\.convert\('RGB'\)\.resize"


def pictures(mode="RGB", sizes=((8, 8), (8, 8))):
    """Pictures of Pillow, of widths and heights."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (*size[::-1], 3)).astype("uint8")).convert(mode) for size in sizes]


GOOD = {
    "pictures": (of_images, pictures()),
    "a picture": (of_images, pictures()[0]),
    "pictures and labels": (of_images, [(picture, 1) for picture in pictures()]),
    "a generator's pictures": (of_images, (picture for picture in pictures())),
    "pictures by name": (lambda: of_two(), {"images": pictures(), "facts": FACTS[:2]}),
    "pictures under a key": (of_images, [{"images": picture} for picture in pictures()]),
    "vectors": (of_vectors, FACTS),
    "batches of vectors": (of_vectors, [FACTS[:4], FACTS[4:]]),
    "vectors and labels": (of_vectors, [(FACTS, np.zeros(20))]),
    "audio": (of_audio, RANDOM.normal(size=(20, 64, 1)).astype("float32")),
    "tokens": (of_tokens, RANDOM.integers(0, 50, (20, 12))),
    "a dictionary of arrays": (of_two, {"images": IMAGES, "facts": FACTS}),
    "with labels in it": (of_two, {"images": IMAGES, "facts": FACTS, "labels": np.zeros(20)}),
    "batches of dictionaries": (of_two, [{"images": IMAGES, "facts": FACTS}]),
    "dictionaries and labels": (of_two, [({"images": IMAGES, "facts": FACTS}, np.zeros(20))]),
    "tuples and labels": (of_two, [((IMAGES, FACTS), np.zeros(20))]),
    "integers": (of_images, (50 * IMAGES).astype("uint8")),
    "doubles": (of_images, IMAGES.astype("float64")),
    "with other keys": (of_images, [{"images": IMAGES, "labels": np.zeros(20), "id": ["a"] * 20}]),
    "a data set": (of_two, tf.data.Dataset.from_tensor_slices(((IMAGES, FACTS), np.zeros(20))).batch(5)),
}


@pytest.mark.parametrize("case", GOOD)
def test_models_of_any_inputs_are_calibrated(case):
    build, data = GOOD[case]
    found = quantizers_of(quantize_post_training(build(), calibration_data=data))
    assert len(found) > 1
    assert all(quantizer.has_range for quantizer in found)


def test_two_inputs_give_the_same_ranges_however_they_are_passed():
    ranges = []
    for case, (build, data) in GOOD.items():
        if build is of_two:
            keras.utils.set_random_seed(1)
            model = quantize_post_training(build(), calibration_data=data)
            ranges.append([quantizer.range() for quantizer in quantizers_of(model)])
            np.testing.assert_allclose(ranges[-1], ranges[0], rtol=1e-5, err_msg=case)
    assert len(ranges) == 6


ONE = r"does not run on batch 1 of the calibration data, .*it takes \(None, 8, 8, 3\)\. No range was changed"
BAD = {
    "one channel": (of_images, IMAGES[..., :1], ValueError, ONE),
    "channels first": (of_images, IMAGES.transpose(0, 3, 1, 2), ValueError, ONE),
    "an image": (of_images, IMAGES[0], ValueError, "The batch axis is missing"),
    "images one by one": (of_images, list(IMAGES), ValueError, "The batch axis is missing"),
    "five axes": (of_images, IMAGES[None], ValueError, ONE),
    "no image": (of_images, IMAGES[:0], ValueError, "is empty"),
    "no batch": (of_images, [], ValueError, "is empty"),
    "labels": (of_images, np.arange(6), ValueError, "must have a batch axis"),
    "labels, one hot": (of_images, np.eye(6, 3), ValueError, ONE),
    "images and labels as a list": (of_images, [IMAGES, np.arange(20)], ValueError, "does not run on batch 2"),
    "text": (of_images, IMAGES.astype(str), ValueError, "batch 1 of the calibration data, string of shape"),
    "bytes": (of_images, IMAGES.astype("S4"), ValueError, "batch 1 of the calibration data, string of shape"),
    "objects": (of_images, IMAGES.astype(object), ValueError, "cannot become a tensor"),
    **{
        f"paths, {kind.__name__}": (of_images, [kind("a.png"), kind("b.png")], ValueError, READ)
        for kind in (str, str.encode, Path, lambda path: (path, 1), lambda path: {"images": path})
    },
    "text in an array": (of_images, [np.array(["a.png"])], ValueError, ONE),
    "pictures of other sizes": (of_images, pictures(sizes=((8, 8), (9, 8))), ValueError, rf"batch 2 .*{READ}"),
    "large pictures": (of_images, pictures(sizes=((9, 8), (9, 8))), ValueError, rf"shape \(2, 8, 9, 3\).*{READ}"),
    "large arrays": (of_images, np.zeros((2, 9, 8, 3)), ValueError, READ),
    **{
        f"pictures, {mode}": (of_images, pictures(mode), ValueError, rf"shape \(2, 8, 8, {channels}\).*{READ}")
        for mode, channels in {"L": 1, "RGBA": 4}.items()
    },
    **{
        f"pictures, {mode}": (of_images, pictures(mode), ValueError, rf"mode '{mode}' must be converted")
        for mode in ("1", "P", "LA", "CMYK", "YCbCr", "HSV", "I", "F")
    },
    "another size later": (of_images, [IMAGES, IMAGES[:, :, :7]], ValueError, rf"batch 2 .*{READ}"),
    "another size by name": (
        of_two,
        [{"images": IMAGES[:, :7], "facts": FACTS}],
        ValueError,
        "does not run on batch 1",
    ),
    "a set": (of_images, {1, 2}, TypeError, "not set"),
    "one number": (of_images, np.float32(1), TypeError, "not float32"),
    "ragged": (of_images, tf.ragged.constant([[1.0], [2.0, 3.0]]), TypeError, "not RaggedTensor"),
    "sparse": (of_images, tf.sparse.from_dense(np.eye(3)), TypeError, "not SparseTensor"),
    "a model's input": (of_images, layers.Input((8, 8, 3)), TypeError, "not KerasTensor"),
    "a function": (of_images, lambda: IMAGES, TypeError, "not function"),
    "tuple": (of_two, [(IMAGES, FACTS)], ValueError, r"takes 2 inputs, images, facts.*Give batches \{'images': "),
    "one array": (of_two, IMAGES, ValueError, "takes 2 inputs, images, facts; batch 1 of the calibration data holds 1"),
    "one missing": (of_two, [{"facts": FACTS}], ValueError, "holds 1"),
    "uneven": (of_two, {"images": IMAGES, "facts": FACTS[:3]}, ValueError, "as many entries of each input"),
    "one too many": (of_vectors, [((FACTS, FACTS), 1)], ValueError, "takes 1 input, .*Give one tensor per batch"),
    "flat": (of_vectors, FACTS[0], ValueError, r"must have a batch axis.*\(5,\)"),
    "path": (of_vectors, "photos", TypeError, "must be an array.*not str"),
    "number": (of_vectors, 3, TypeError, "must be an array.*not int"),
    "nothing": (of_vectors, [None], ValueError, "Batch 1 of the calibration data cannot become a tensor"),
    "dictionary of text": (of_vectors, {"images": "a.png"}, TypeError, "not dict"),
}


@pytest.mark.parametrize("case", BAD)
def test_data_that_does_not_fit_is_an_error_and_the_model_stays_float(case):
    build, data, kind, words = BAD[case]
    model = build()
    with pytest.raises(kind, match=words):
        quantize_post_training(model, calibration_data=data)
    assert not quantizers_of(model)


ENDLESS = {
    "generator": lambda: (FACTS for _ in itertools.count()),
    "repeated": lambda: tf.data.Dataset.from_tensor_slices(FACTS).batch(20).repeat(),
    "unknown": lambda: tf.data.Dataset.from_generator(
        lambda: (FACTS for _ in itertools.count()), output_signature=tf.TensorSpec((20, 5))
    ),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_endless_data_is_read_up_to_a_bound_with_a_warning(kind, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_BATCHES", 5)
    with pytest.warns(UserWarning, match=r"calibration data has no known end: the first 5 batches.*max_batches="):
        model = quantize_post_training(of_vectors(), calibration_data=ENDLESS[kind]())
    assert {float(quantizer.batches_seen.numpy()) for quantizer in quantizers_of(model)} == {5.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(model, ENDLESS[kind](), max_batches=7)
    assert {float(quantizer.batches_seen.numpy()) for quantizer in quantizers_of(model)} == {7.0}
    with pytest.raises(ValueError, match="at least 1, got 0"):
        calibrate(model, ENDLESS[kind](), max_batches=0)


def test_data_with_a_known_end_is_read_whole(monkeypatch):
    monkeypatch.setattr(calibration, "MOST_BATCHES", 2)
    data_set = tf.data.Dataset.from_tensor_slices(FACTS).batch(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data, batches in (
            (np.repeat(FACTS, 4, axis=0), 5),
            ([FACTS] * 4, 4),
            (data_set, 5),
            (iter([FACTS] * 2), 2),
        ):
            assert len(list(image_batches(data))) == batches
    assert len(list(image_batches(FACTS, 4, most=3))) == 3
    model = quantize_post_training(of_vectors(), calibration_data=[FACTS] * 9, max_calibration_batches=3)
    assert {float(quantizer.batches_seen.numpy()) for quantizer in quantizers_of(model)} == {3.0}


def test_endless_parity_data_is_bounded_too(monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "MOST_BATCHES", 2)
    image = layers.Input((8, 8, 3))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image)))
    quantize_post_training(model, calibration_data=IMAGES)
    with pytest.warns(UserWarning, match="parity data has no known end"):
        rb.export_model(model, tmp_path / "m.tflite", parity_data=(IMAGES for _ in itertools.count()))


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_while_ranges_are_set_puts_all_of_them_back(at, error, monkeypatch):
    model = quantize_post_training(of_vectors(), calibration_data=FACTS)
    before = model.get_weights()
    calls, set_range = itertools.count(), ActivationQuantizer.set_range

    def interrupted(self, *arguments, **options):
        set_range(self, *arguments, **options)
        if next(calls) == at:
            raise error

    monkeypatch.setattr(ActivationQuantizer, "set_range", interrupted)
    with pytest.raises(error):
        calibrate(model, 3 * FACTS)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("how", ["position", "keyword"])
def test_batch_norms_called_with_training_by_position_freeze_too(how):
    image = layers.Input((8, 8, 3))
    norm = layers.BatchNormalization(name="norm")
    x = layers.Conv2D(4, 3, padding="same")(image)
    if how == "position" and keras_name().startswith("Keras 3"):
        with pytest.raises(ValueError, match="Only input tensors may be passed as positional arguments"):
            norm(x, True)
        return
    x = norm(x, True) if how == "position" else norm(x, training=True)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.ReLU()(x)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        rb.quantize_aware(model, calibration_data=IMAGES)
    runs_in_inference = keras_name().startswith("Keras 3")
    assert runs_in_inference != any(
        "'norm' of 'model" in str(w.message) and "training=True" in str(w.message) for w in said
    )
    model.compile("sgd", "mse")
    schedule = rb.QuantizationSchedule(freeze_batch_norm_epoch=0, freeze_ranges_epoch=0)
    mean = norm.moving_mean.numpy().copy()
    model.fit(IMAGES + 5, np.zeros((20, 4)), epochs=2, verbose=0, callbacks=[schedule])
    np.testing.assert_array_equal(norm.moving_mean.numpy(), mean)
