"""LiteRT's own detection post-processing in the file: what it finds, and what standard task libraries read of it."""

from __future__ import annotations

import os

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import resnet_backbones as rb
from resnet_backbones.export.litert.flatbuffer import read_model
from resnet_backbones.keras_compat import keras
from tests.support.nets import even_images, randomise

NAMES = ["a", "b", "c"]


def run(path, images):
    """Boxes, classes, scores and count of one image, straight from LiteRT."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    (entry,) = interpreter.get_input_details()
    if entry["dtype"] is np.int8:
        scale, zero = entry["quantization"]
        images = np.clip(np.round(images / scale) + zero, -128, 127)
    return runner(images=images.astype(entry["dtype"]))


@pytest.fixture(scope="module")
def detector():
    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, 3))
    randomise(backbone)
    model = rb.adapters.keras_cv.retinanet(backbone, num_classes=3, bounding_box_format="xywh", head_depth=1)
    last = model.classification_head.prediction_layer
    last.kernel.assign(10 * last.kernel.numpy())  # scores that differ
    return model


@pytest.fixture(scope="module")
def batch():
    return even_images(-1, 1, 4, 64, 64, 3)


@pytest.fixture(scope="module")
def float_report(detector, batch, tmp_path_factory):
    path = tmp_path_factory.mktemp("float") / "d.tflite"
    return rb.export_model(detector, path, postprocessing=True, class_names=NAMES, parity_data=batch)


@pytest.fixture(scope="module")
def int8_report(detector, float_report, batch, tmp_path_factory):
    del float_report  # made before the detector is quantized
    rb.quantize_post_training(detector, calibration_data=batch)
    path = tmp_path_factory.mktemp("int8") / "d.tflite"
    return rb.export_model(detector, path, postprocessing=True, class_names=NAMES, parity_data=batch)


def compare_with_the_runtime(detector, report, batch, tmp_path, precision):
    """The operator's boxes against the runtime's decoding of the same network's own outputs."""
    bare = rb.export_model(detector, tmp_path / "bare.tflite", precision=precision)
    expected = rb.runtime.load(bare.path).predict(batch[:1])[0]
    found = run(report.path, batch[:1])
    count = int(found["count"][0])
    assert count == len(expected.boxes) > 3
    np.testing.assert_allclose(found["scores"][0, :count], expected.scores, atol=1e-5)
    np.testing.assert_array_equal(found["classes"][0, :count], expected.classes)
    top, left, bottom, right = np.moveaxis(found["boxes"][0, :count] * 64, -1, 0)
    np.testing.assert_allclose(np.stack([left, top, right - left, bottom - top], -1), expected.boxes, atol=1e-2)


def test_a_float_file_finds_what_the_runtime_finds(detector, float_report, batch, tmp_path):
    assert float_report.operators["CUSTOM", "float32"] == 1
    assert {entry.name for entry in float_report.parity} == {"box", "classification"}, "the network's own outputs"
    assert float_report.passed
    compare_with_the_runtime(detector, float_report, batch, tmp_path, "float32")


def test_an_int8_file_finds_what_the_runtime_finds(detector, int8_report, batch, tmp_path):
    assert int8_report.int8_mac_share == 1.0
    floats = {kind for kind, dtype in int8_report.operators if dtype == "float32"}
    assert floats == {"DEQUANTIZE", "CONCATENATION", "LOGISTIC", "CUSTOM"}
    compare_with_the_runtime(detector, int8_report, batch, tmp_path, "int8")


def test_the_runtime_reads_it_and_a_file_that_resizes_too(detector, int8_report, batch, tmp_path):
    bare = rb.runtime.load(rb.export_model(detector, tmp_path / "bare.tflite", class_names=NAMES).path)
    expected, found = (model.predict(batch[:1])[0] for model in (bare, rb.runtime.load(int8_report.path)))
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    assert found.names == expected.names
    large = np.repeat(np.repeat(batch[:1], 2, axis=1), 3, axis=2)  # boxes come in this image's pixels
    report = rb.export_model(detector, tmp_path / "m.tflite", preprocessing=(128, 192), postprocessing=True)
    found = rb.runtime.load(report.path).predict(large)[0]
    expected = bare.predict(large)[0]
    assert len(found.boxes) > 3
    best = [np.abs(expected.boxes - box).max(axis=-1).min() for box in found.boxes]
    assert np.median(best) < 3, "a pixel of the network is two or three of the image"


def test_task_libraries_find_four_outputs_in_their_order(int8_report):
    metadata = rb.runtime.read_metadata(int8_report.path)
    assert metadata["task"]["name"] == "detections"
    interpreter = Interpreter(model_path=str(int8_report.path))
    shapes = [list(detail["shape"]) for detail in interpreter.get_output_details()]
    assert shapes == [[1, 100, 4], [1, 100], [1, 100], [1]]


class Reader:
    """A flatbuffer table, read by slot numbers."""

    def __init__(self, data, position):
        self.table = flatbuffers.table.Table(data, position)

    @classmethod
    def root(cls, data):
        return cls(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))

    def _offset(self, slot):
        return self.table.Offset(4 + 2 * slot)

    def byte(self, slot):
        return self.table.Get(flatbuffers.number_types.Int8Flags, self.table.Pos + self._offset(slot))

    def text(self, slot):
        return self.table.String(self.table.Pos + self._offset(slot)).decode()

    def child(self, slot):
        return Reader(self.table.Bytes, self.table.Indirect(self.table.Pos + self._offset(slot)))

    def children(self, slot):
        start, count = self.table.Vector(self._offset(slot)), self.table.VectorLen(self._offset(slot))
        return [Reader(self.table.Bytes, self.table.Indirect(start + 4 * i)) for i in range(count)]

    def numbers(self, slot, flags):
        return self.table.GetVectorAsNumpy(flags, self._offset(slot)).tolist()


def test_the_standard_metadata_says_what_inputs_and_outputs_are(int8_report):
    model = read_model(int8_report.path.read_bytes())
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    data = bytes(model.buffers[entry.buffer].data)
    assert data[4:8] == b"M001"
    root = Reader.root(data)
    (subgraph,) = root.children(3)
    (image,) = subgraph.children(2)
    assert image.child(3).byte(0) == 2, "an image"
    assert image.child(3).child(1).byte(0) == 1, "RGB"
    (unit,) = image.children(4)
    floats = flatbuffers.number_types.Float32Flags
    assert unit.byte(0) == 1, "normalisation"
    assert (unit.child(1).numbers(0, floats), unit.child(1).numbers(1, floats)) == ([0.0], [1.0])
    boxes, classes, scores, count = subgraph.children(3)
    assert [tensor.text(0) for tensor in (boxes, classes, scores, count)] == ["boxes", "classes", "scores", "count"]
    assert boxes.child(3).byte(0) == 3, "bounding boxes"
    order = boxes.child(3).child(1).numbers(0, flatbuffers.number_types.Uint32Flags)
    assert order == [1, 0, 3, 2], "top, left, bottom, right"
    (labels,) = classes.children(6)
    assert (labels.text(0), labels.byte(2)) == ("labels.txt", 3)


def test_labels_are_in_the_file(int8_report):
    import zipfile

    with zipfile.ZipFile(int8_report.path) as archive:
        assert archive.read("labels.txt").decode().split() == NAMES
        assert "resnet_backbones.json" in archive.namelist()


def test_what_the_operator_cannot_decode_is_refused(detector, tmp_path):
    image = keras.layers.Input((32, 32, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(ValueError, match="no boxes as deltas to anchors"):
        rb.export_model(model, tmp_path / "m.tflite", postprocessing=True)
    with pytest.raises(ValueError, match="batch must be 1, not None"):
        rb.export_model(detector, tmp_path / "m.tflite", postprocessing=True, batch=None)
    assert not os.listdir(tmp_path)
