from __future__ import annotations

from types import SimpleNamespace

import keras_cv
import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones import runtime
from tests.runtime.tiny_models import ANCHORS, SIZE, convert, detector_metadata
from tests.support.processes import in_threads, run_python


def write(path, flatbuffer, metadata=None):
    path.write_bytes(flatbuffer if metadata is None else runtime.append_metadata(flatbuffer, metadata))
    return path


def test_raw_joins_the_levels_and_equals_the_network(detector_file, detector, images):
    raw = runtime.load(detector_file).raw(images)
    expected = detector.module.heads(images)
    assert list(raw) == ["box", "classification"]
    for name, value in expected.items():
        np.testing.assert_allclose(raw[name], value, atol=1e-4)


def test_predict_finds_what_keras_cv_finds(detector_file, detector, images):
    stand_in = SimpleNamespace(
        anchor_generator=keras_cv.layers.AnchorGenerator("xywh", **ANCHORS),
        bounding_box_format="xywh",
        prediction_decoder=keras_cv.layers.NonMaxSuppression("xywh", from_logits=True),
    )
    heads = detector.module.heads(images)
    theirs = keras_cv.models.RetinaNet.decode_predictions(stand_in, heads, images)
    theirs = {name: np.asarray(value) for name, value in theirs.items()}
    results = runtime.load(detector_file).predict(images)
    assert len(results) == len(images)
    for index, ours in enumerate(results):
        count = theirs["num_detections"][index]
        assert len(ours) == count > 0
        np.testing.assert_allclose(ours.boxes, theirs["boxes"][index][:count], atol=1e-3)
        np.testing.assert_array_equal(ours.classes, theirs["classes"][index][:count])
        assert ours.names == [["circle", "square", "star"][number] for number in ours.classes]


def test_boxes_come_back_in_pixels_of_the_image_as_given(detector_file, images):
    model = runtime.load(detector_file)
    doubled = np.repeat(np.repeat(images[0], 2, axis=0), 3, axis=1)  # twice as high, three times as wide
    small = model.predict(runtime.images.resize_bilinear(doubled, *SIZE))[0]
    large = model.predict([doubled])[0]
    assert len(small) == len(large) > 0
    np.testing.assert_allclose(large.boxes, small.boxes * [3, 2, 3, 2], atol=1e-3)  # xywh


def test_thresholds_can_be_changed(detector_file, images):
    model = runtime.load(detector_file)
    usual = model.predict(images[0])[0]
    assert len(model.predict(images[0], confidence=0.0)[0]) > len(usual) > 0
    assert len(model.predict(images[0], iou=1.0)[0]) > len(usual)
    assert len(model.predict(images[0], confidence=1.0)[0]) == 0


def test_int8_inputs_and_outputs_are_hidden(detector, images, tmp_path):
    model = runtime.load(write(tmp_path / "int8.tflite", detector.int8_flatbuffer, detector_metadata()))
    raw, expected = model.raw(images), detector.module.heads(images)
    for name, value in expected.items():
        assert raw[name].dtype == np.float32
        assert np.abs(raw[name] - value).max() < 0.03 * np.abs(value).max()


def test_image_scale_and_offset_of_the_metadata_are_applied(detector, images, tmp_path):
    scaling = {"shape": [1, *SIZE, 3], "scale": 0.5, "offset": [0.1, 0.2, 0.3]}
    model = runtime.load(write(tmp_path / "d.tflite", detector.flatbuffer, detector_metadata(input=scaling)))
    expected = detector.module.heads(images * 0.5 + np.array([0.1, 0.2, 0.3], "float32"))
    np.testing.assert_allclose(model.raw(images)["box"], expected["box"], atol=1e-4)


def test_a_file_of_batch_two_takes_any_number_of_images(classifier, tmp_path):
    model = runtime.load(write(tmp_path / "c.tflite", classifier.flatbuffer))
    images = np.random.default_rng(0).uniform(0, 1, (3, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(model.raw(images)["predictions"], images.mean((1, 2)) @ classifier.kernel, atol=1e-5)
    assert model.raw([])["predictions"].shape == (0, 5)


@pytest.mark.parametrize("activation", ["softmax", "linear"])
def test_classification_gives_the_best_classes(classifier, tmp_path, activation):
    metadata = {
        "task": {"name": "image_classifier", "num_classes": 5, "activation": activation},
        "input": {"shape": [2, 8, 8, 3], "scale": 1.0, "offset": 0.0},
        "outputs": [{"name": "predictions", "parts": ["predictions"], "axis": 1}],
        "class_names": list("abcde"),
    }
    model = runtime.load(write(tmp_path / "c.tflite", classifier.flatbuffer, metadata))
    images = np.random.default_rng(0).uniform(0, 1, (3, 8, 8, 3)).astype("float32")
    scores = images.mean((1, 2)) @ classifier.kernel
    if activation == "linear":
        scores = tf.nn.softmax(scores).numpy()
    for result, row in zip(model.predict(images, top_k=3), scores, strict=True):
        order = np.argsort(-row)[:3]
        np.testing.assert_array_equal(result.classes, order)
        np.testing.assert_allclose(result.scores, row[order], atol=1e-5)
        assert result.names == ["abcde"[number] for number in order]


def test_a_foreign_file_runs_but_is_not_decoded(detector, images, tmp_path):
    model = runtime.load(write(tmp_path / "plain.tflite", detector.flatbuffer))
    assert model.task == "tensors"
    assert model.metadata is None
    assert set(model.raw(images)) == {"box_0", "box_1", "classification_0", "classification_1"}
    with pytest.raises(ValueError, match="no metadata"):
        model.predict(images)


@pytest.mark.parametrize("task", ["faster_rcnn", "depth", "tensors"])
def test_a_task_without_a_decoder_says_so(detector, images, tmp_path, task):
    metadata = detector_metadata(task={"name": task})
    model = runtime.load(write(tmp_path / "d.tflite", detector.flatbuffer, metadata))
    assert model.raw(images)["box"].shape[0] == len(images)
    with pytest.raises(ValueError, match=f"does not decode '{task}'"):
        model.predict(images)


def test_metadata_that_lacks_what_the_task_needs_says_so(detector, images, tmp_path):
    metadata = detector_metadata(task={"name": "retinanet"})
    model = runtime.load(write(tmp_path / "d.tflite", detector.flatbuffer, metadata))
    with pytest.raises(ValueError, match="lacks 'anchors'"):
        model.predict(images)


def test_metadata_of_another_model_is_an_error(detector, tmp_path):
    outputs = [{"name": "box", "parts": ["box_7"], "axis": 1}]
    path = write(tmp_path / "d.tflite", detector.flatbuffer, detector_metadata(outputs=outputs))
    with pytest.raises(ValueError, match="box_7"):
        runtime.load(path)


@pytest.mark.parametrize("part", [0.0, 0.2, 0.8, 0.999])
def test_a_file_cut_short_is_an_error(detector, detector_file, part):
    whole = detector_file.read_bytes()
    detector_file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ValueError, match="cut short"):
        runtime.load(detector_file)


def test_a_file_that_is_no_tflite_is_an_error(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"not a model" * 100)
    with pytest.raises(ValueError, match=r"no \.tflite"):
        runtime.load(path)
    with pytest.raises(FileNotFoundError):
        runtime.load(tmp_path / "absent.tflite")


def test_several_inputs_are_an_error(tmp_path):
    spec = tf.TensorSpec([1, 4], tf.float32)
    function = tf.function(lambda a, b: {"sum": a + b}, input_signature=[spec, spec])
    path = write(tmp_path / "two.tflite", convert(function, tf.Module()))
    with pytest.raises(ValueError, match="2 inputs"):
        runtime.load(path)


def test_an_input_of_open_size_is_an_error(tmp_path):
    spec = tf.TensorSpec([1, None, None, 3], tf.float32)
    function = tf.function(lambda images: {"sum": images + 1.0}, input_signature=[spec])
    path = write(tmp_path / "open.tflite", convert(function, tf.Module()))
    with pytest.raises(ValueError, match="static input_shape"):
        runtime.load(path)


def test_an_input_that_is_no_image_takes_arrays_of_its_shape(tmp_path):
    spec = tf.TensorSpec([1, 4], tf.float32)
    function = tf.function(lambda x: {"twice": x * 2.0}, input_signature=[spec])
    model = runtime.load(write(tmp_path / "flat.tflite", convert(function, tf.Module())))
    values = np.arange(12, dtype="float32").reshape(3, 4)
    np.testing.assert_array_equal(model.raw(values)["twice"], values * 2)
    with pytest.raises(ValueError, match=r"takes \('N', 4\)"):
        model.raw(np.zeros((3, 5), "float32"))


@pytest.mark.parametrize("argument", [{"confidence": 2}, {"iou": -0.1}, {"top_k": 0}], ids=str)
def test_arguments_out_of_range_are_errors(detector_file, images, argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        runtime.load(detector_file).predict(images, **argument)


def test_threads_take_turns(detector_file, images):
    model = runtime.load(detector_file, num_threads=1)
    expected = model.raw(images)["box"]

    def work():
        for _ in range(20):
            np.testing.assert_array_equal(model.raw(images)["box"], expected)

    in_threads(work)


def test_predicting_imports_no_tensorflow_and_no_keras(detector_file):
    code = f"""
import sys
import numpy as np
import resnet_backbones.runtime as runtime
model = runtime.load({str(detector_file)!r})
assert model.predict(np.random.rand(1, 50, 70, 3))[0].boxes.shape[1] == 4
loaded = {{name.split(".")[0] for name in sys.modules}}
print(sorted(loaded & {{"tensorflow", "keras", "tf_keras", "keras_cv", "torch", "tflite_runtime"}}))
"""
    assert run_python(code) == "[]"
