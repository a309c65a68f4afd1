"""ONNX Runtime and OpenVINO behind the same interface as LiteRT."""

from __future__ import annotations

import os
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from resnet_backbones import runtime
from tests.runtime import onnx_models
from tests.runtime.fuzz_bases import NAMES, classifier_task, described
from tests.runtime.tiny_models import detector_metadata
from tests.support.processes import in_threads

ONNX_BACKENDS = ["onnxruntime", "openvino"]


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(4).uniform(0, 1, (5, 8, 8, 3)).astype("float32")


def write(path, data, shape=(1, 8, 8, 3), layout="NHWC", **changes):
    metadata = {**described(classifier_task(), list(shape), ["predictions"], layout), **changes}
    path.write_bytes(runtime.append_metadata(data, metadata, "onnx"))
    return path


@pytest.mark.parametrize("backend", ONNX_BACKENDS)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("batch", [1, 2, None])
def test_onnx_of_either_layout_and_any_batch(tmp_path, pictures, backend, layout, batch):
    data = onnx_models.classifier(layout=layout, batch=batch or "n")
    model = runtime.load(write(tmp_path / "m.onnx", data, (batch, 8, 8, 3), layout), backend, num_threads=1)
    assert model.input_shape == (batch, 8, 8, 3)
    expected = onnx_models.logits(pictures + np.array([0, 0.1, 0.2], "float32"))
    np.testing.assert_allclose(model.raw(pictures)["predictions"], expected, atol=1e-4)
    assert model.raw([])["predictions"].shape == (0, 5)
    found = model.predict(pictures, top_k=2)
    assert [result.names[0] for result in found] == [NAMES[row.argmax()] for row in expected]


@pytest.mark.parametrize("backend", ONNX_BACKENDS)
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.UINT8])
def test_inputs_of_other_types_are_fed(tmp_path, pictures, backend, dtype):
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_models.classifier(dtype=dtype))
    images = np.round(pictures * 255)
    found = runtime.load(path, backend).raw(images)["predictions"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, onnx_models.logits(images), rtol=1e-3, atol=0.5)


def test_a_batch_of_any_number_runs_at_once(tmp_path, pictures, monkeypatch):
    model = runtime.load(write(tmp_path / "m.onnx", onnx_models.classifier(batch="n"), (None, 8, 8, 3)))
    sizes, program = [], model._program
    monkeypatch.setattr(model, "_program", lambda batch: sizes.append(len(batch)) or program(batch))
    model.predict(np.repeat(pictures, 8, axis=0))
    assert sizes == [32, 8]


@pytest.mark.parametrize("kind", ["flatbuffer", "int8_flatbuffer"])
def test_openvino_runs_tflite_as_litert_does(detector, images, tmp_path, kind):
    path = tmp_path / "d.tflite"
    path.write_bytes(runtime.append_metadata(getattr(detector, kind), detector_metadata()))
    ours, theirs = (runtime.load(path, backend).raw(images) for backend in ("openvino", "litert"))
    for name, value in theirs.items():
        step = np.abs(value).max() / 127 if kind.startswith("int8") else 1e-4
        assert ours[name].dtype == np.float32
        assert np.abs(ours[name] - value).max() <= 2 * step


def test_a_tflite_of_any_batch_runs_at_once(tmp_path, pictures):
    import tensorflow as tf

    from tests.runtime.tiny_models import convert

    spec = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="images")
    function = tf.function(
        lambda images: {"predictions": tf.reduce_mean(images, [1, 2]) @ onnx_models.KERNEL}, input_signature=[spec]
    )
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(function, tf.Module()))
    for backend in ("litert", "openvino"):
        model = runtime.load(path, backend)
        assert model.input_shape == (None, 8, 8, 3)
        for count in (5, 2, 0):
            found = model.raw(pictures[:count])["predictions"]
            np.testing.assert_allclose(found, onnx_models.logits(pictures[:count]).reshape(-1, 5), atol=1e-4)


@pytest.mark.parametrize("backend", ONNX_BACKENDS)
def test_threads_share_a_model(tmp_path, pictures, backend):
    model = runtime.load(write(tmp_path / "m.onnx", onnx_models.classifier()), backend, num_threads=2)
    expected = model.raw(pictures)["predictions"]

    def work():
        for _ in range(10):
            np.testing.assert_array_equal(model.raw(pictures)["predictions"], expected)

    in_threads(work)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("m.onnx", {"backend": "tensorrt"}, "is not one of 'litert', 'onnxruntime', 'openvino'."),
        ("m.onnx", {"backend": "litert"}, "use backend='onnxruntime' or 'openvino'"),
        ("m.bin", {}, "Cannot tell what runs"),
        ("m.onnx", {"num_threads": 0}, "num_threads"),
    ],
)
def test_wrong_choices_say_what_is_right(tmp_path, name, arguments, words):
    (tmp_path / name).write_bytes(onnx_models.classifier())
    with pytest.raises(ValueError, match=words):
        runtime.load(tmp_path / name, **arguments)


@pytest.mark.parametrize(
    ("backend", "package", "extra"),
    [
        ("litert", "ai_edge_litert.interpreter", "runtime"),
        ("onnxruntime", "onnxruntime", "onnx"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_a_missing_engine_says_which_extra_brings_it(detector_file, tmp_path, monkeypatch, backend, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    path = detector_file
    if backend != "litert":
        path = write(tmp_path / "m.onnx", onnx_models.classifier())
    with pytest.raises(ImportError, match=rf"resnet-backbones\[{extra}\]"):
        runtime.load(path, backend)


def test_data_in_another_file_is_refused(tmp_path):
    model = onnx.load_from_string(onnx_models.classifier())
    kernel = model.graph.initializer[1]
    values = numpy_helper.to_array(kernel)
    (tmp_path / "secret.bin").write_bytes(values.tobytes())
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    kernel.external_data.add(key="location", value="secret.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="another file"):
        runtime.load(tmp_path / "m.onnx")


def test_external_data_within_a_node_is_refused_too(tmp_path):
    tensor = numpy_helper.from_array(np.zeros(3, "float32"))
    tensor.data_location = TensorProto.EXTERNAL
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "branch", [], [])
    node = helper.make_node("If", ["yes"], ["c"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph([node], "graph", [], [])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ValueError, match="another file"):
        runtime.load(tmp_path / "m.onnx")


def test_onnx_inputs_of_open_size_and_several_inputs_are_errors(tmp_path):
    (tmp_path / "open.onnx").write_bytes(onnx_models.classifier(size=("h", "w")))
    with pytest.raises(ValueError, match="static input_shape"):
        runtime.load(tmp_path / "open.onnx")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "abc"]
    data = onnx_models.serialized([helper.make_node("Add", ["a", "b"], ["c"])], info[:2], info[2:])
    (tmp_path / "two.onnx").write_bytes(data)
    with pytest.raises(ValueError, match="2 inputs"):
        runtime.load(tmp_path / "two.onnx")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_files_of_any_name_are_read(tmp_path, backend):
    name = tmp_path / os.fsdecode(b"\xff \xc3.onnx")  # no UTF-8
    name.write_bytes(onnx_models.classifier())
    assert runtime.load(name, backend).task == "tensors"
