"""A segmentation is judged by the class of each pixel: a right file passes, one of wrong ranges does not."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.export import formats
from resnet_backbones.export.litert import emitter as litert
from resnet_backbones.export.report import verify
from resnet_backbones.export.report.parity import output_parity
from resnet_backbones.export.request import ExportRequest
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import quantizers_of
from resnet_backbones.tasks import TaskDescriptor, register_task
from tests.support.nets import even_images

layers = keras.layers
REQUEST = ExportRequest("litert", "int8")


@keras.utils.register_keras_serializable("tests.export")
class Segmenter(keras.Model):
    """A task of its own class, as an adapter's."""


@pytest.fixture
def known(monkeypatch):
    from resnet_backbones import tasks

    monkeypatch.setattr(tasks, "_TASKS", dict(tasks._TASKS))
    register_task(Segmenter, TaskDescriptor("segmentation", lambda model: {"num_classes": 3}, class_per_pixel=True))


@pytest.fixture(scope="module")
def pictures():
    coarse = even_images(-1, 1, 32, 4, 4, 3)
    return tf.image.resize(coarse, (16, 16), "bicubic").numpy()


def trained(pictures):
    """Gives each pixel the color that it has most of."""
    keras.utils.set_random_seed(0)
    image = layers.Input((16, 16, 3))
    x = image
    for strides in (2, 1, 1):
        x = layers.Conv2D(16, 3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(x))
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.Conv2D(3, 1, name="scores")(x)
    model = Segmenter(image, layers.Softmax()(x))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(pictures, pictures.argmax(-1), batch_size=32, epochs=25, verbose=0)
    return model


@pytest.fixture
def quantized(known, pictures):
    return rb.quantize_post_training(trained(pictures), "portable_int8", calibration_data=pictures)


def test_a_right_file_passes_and_says_how_many_classes_are_right(quantized, pictures, tmp_path):
    report = rb.export_model(quantized, tmp_path / "m.tflite", parity_data=pictures)
    (found,) = report.parity
    assert found.same_class > 0.995
    assert report.passed, report.failures
    assert f"{100 * found.same_class:.2f} % of the pixels have the class that Keras gives them" in str(report)


def test_each_wrong_range_fails(quantized, pictures, tmp_path):
    """The file has one range that is not the model's; whatever that does to a pixel's class shows."""
    emitted = litert.emit(quantized, REQUEST)
    path = tmp_path / "m.tflite"
    facts = {"task": {"name": "tensors"}, **emitted.metadata, "class_names": None}
    litert.write(emitted, facts, path)
    found = verify.Verification(quantized, formats.FORMATS["litert"], REQUEST, emitted, path)
    seen = 0
    for quantizer in quantizers_of(quantized):
        if quantizer.fixed_range is not None:
            continue
        low, high = quantizer.range()
        quantizer.set_range(0.2 * low, 0.2 * high, batches=1)
        (entry,) = found.outputs([pictures])
        quantizer.set_range(low, high, batches=1)
        seen += 1
        assert entry.failures, quantizer.name
    assert seen >= 5
    assert not found.outputs([pictures])[0].failures


SHARP = np.eye(3, dtype="float32")  # scores of a pixel of each class


def segmentation(counts):
    return np.concatenate([np.repeat(SHARP[number : number + 1], count, 0) for number, count in enumerate(counts)])[
        None, None
    ]


@pytest.mark.parametrize(
    ("counts", "wrong", "passes"),
    [
        ((400, 300, 300), (1, 0, 0), True),  # 99.9 %
        ((400, 300, 300), (1, 1, 1), False),  # 99.7 %, all of them surely another class
        ((900, 50, 50), (0, 0, 1), True),
        ((9900, 50, 50), (0, 0, 3), True),  # a class too small to look at
        ((9980, 10, 10), (0, 10, 10), False),  # all but one class: the values decide
        ((1000, 0, 0), (0, 0, 0), True),
    ],
)
def test_all_pixels_count_and_each_class(counts, wrong, passes):
    expected = segmentation(counts)
    exported, start = expected.copy(), 0
    for number, (count, others) in enumerate(zip(counts, wrong, strict=True)):
        exported[0, 0, start : start + others] = SHARP[(number + 1) % 3]
        start += count
    found = output_parity("output", exported, expected, np.float32(1 / 256), True)
    assert found.same_class == pytest.approx(1 - sum(wrong) / sum(counts))
    assert (not found.failures) == passes


def test_nearly_right_classes_make_up_for_steps_and_not_for_the_cosine():
    expected = segmentation((400, 300, 300)) * 0.8
    near = expected + np.float32(0.03) * (np.arange(1000) % 5 == 0)[None, None, :, None]
    flipped = near.copy()
    flipped[0, 0, :4, :2] = near[0, 0, :4, 1::-1]
    more = near.copy()
    more[0, 0, :6, :2] = near[0, 0, :6, 1::-1]
    for exported, passes in ((near, True), (flipped, False), (more, False)):
        found = output_parity("output", exported, expected, np.float32(1 / 256), True)
        assert found.within_two_steps < 0.99
        assert (not found.failures) == passes, found


def test_one_class_everywhere_leaves_it_to_the_values():
    """Any file might give all pixels the one class; an error of 5 steps everywhere is none of edges."""
    expected = np.broadcast_to(np.float32([0.8, 0.1, 0.1]), (1, 10, 10, 3))
    found = output_parity("output", expected + np.float32(5 / 256), expected, np.float32(1 / 256), True)
    assert found.same_class == 1.0
    assert found.same_class_of_worst is None
    assert found.failures


def test_what_keras_itself_cannot_tell_apart_is_right_either_way():
    expected = np.float32([[[[0.500, 0.494, 0.006], [0.49, 0.5, 0.01], [0.1, 0.1, 0.8]]]])
    exported = np.float32([[[[0.496, 0.498, 0.006], [0.49, 0.5, 0.01], [0.1, 0.1, 0.8]]]])
    assert output_parity("output", exported, expected, np.float32(1 / 256), True).same_class == 1.0
    assert output_parity("output", exported, expected, None, True).same_class == pytest.approx(2 / 3)


def test_other_tasks_are_not_judged_by_class():
    scores = np.random.default_rng(0).uniform(size=(1, 8, 8, 3)).astype("float32")
    assert output_parity("output", scores, scores, np.float32(1 / 256)).same_class is None
    assert output_parity("output", scores[0, 0], scores[0, 0], np.float32(1 / 256), True).same_class is None, (
        "no pixels"
    )


def test_not_a_number_fails():
    expected = segmentation((40, 30, 30))
    exported = np.full_like(expected, np.nan)
    assert output_parity("output", exported, expected, np.float32(1 / 256), True).failures
