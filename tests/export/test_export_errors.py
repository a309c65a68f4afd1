"""Bad input is a clear error and leaves no file behind."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones._util.files import written_whole
from resnet_backbones.errors import ExportError
from resnet_backbones.export.problems import explained
from resnet_backbones.keras_compat import keras


@pytest.fixture
def model():
    image = keras.layers.Input((32, 32, 3))
    return keras.Model(image, keras.layers.Conv2D(4, 3, name="conv")(image))


def test_int8_of_a_float_model_says_how_to_quantize(model, tmp_path):
    with pytest.raises(ValueError, match="quantize_aware"):
        rb.export_model(model, tmp_path / "m.tflite", precision="int8")
    assert not os.listdir(tmp_path)


def test_ranges_placed_for_tensorrt_do_not_make_a_litert_file(model, tmp_path):
    scheme = rb.quantization.get_scheme("gpu_int8").replace(float_outputs=False)
    rb.quantize_aware(model, scheme, calibration_data=np.zeros((1, 32, 32, 3), "float32"))
    with pytest.raises(ValueError, match="'gpu_int8'.*'portable_int8'"):
        rb.export_model(model, tmp_path / "m.tflite")
    assert not os.listdir(tmp_path)
    assert rb.export_model(model, tmp_path / "m.tflite", precision="float32").path.exists()


def test_ranges_must_exist_before_export(model, tmp_path):
    rb.quantize_aware(model)
    with pytest.raises(ValueError, match="never observed.*calibrate"):
        rb.export_model(model, tmp_path / "m.tflite")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "precision", "match"),
    [("m.bin", None, "tflite"), ("m.tflite", "int4", "float16"), ("m.h5", None, "tflite")],
)
def test_unknown_formats_and_precisions_are_listed(model, tmp_path, name, precision, match):
    with pytest.raises(ValueError, match=match):
        rb.export_model(model, tmp_path / name, precision=precision)


def test_a_folder_that_cannot_be_written_to_is_named_before_any_work(model, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        rb.export_model(model, tmp_path / "nowhere" / "m.tflite")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="must exist and be writable"):
        rb.export_model(model, tmp_path / "file" / "m.tflite")
    (tmp_path / "m.tflite").mkdir()
    with pytest.raises(OSError, match="is a folder"):
        rb.export_model(model, tmp_path / "m.tflite")


def test_an_open_input_size_says_what_to_change(tmp_path):
    backbone = rb.create_backbone("resnet10t", input_shape=(None, None, 3))
    with pytest.raises(ValueError, match="input_shape"):
        rb.export_model(backbone, tmp_path / "m.tflite")
    assert not os.listdir(tmp_path)


def test_a_failure_halfway_keeps_the_old_file_and_leaves_nothing_else(model, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"the old one")
    with pytest.raises(Exception, match="shape"):  # the parity images are of another size: found after conversion
        rb.export_model(model, path, parity_data=np.zeros((1, 16, 16), "float32"))
    assert path.read_bytes() == b"the old one"
    assert os.listdir(tmp_path) == ["m.tflite"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "data.bin"

    def fail_halfway():
        with written_whole(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert not os.listdir(tmp_path)
    with written_whole(path) as temporary:
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["data.bin"]


def test_a_truncated_file_is_refused_by_the_runtime(model, tmp_path):
    path = tmp_path / "m.tflite"
    rb.export_model(model, path)
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="cut"):
        rb.runtime.load(cut)


@pytest.mark.parametrize(("name", "file_format"), [("m.tflite", "litert"), ("m.onnx", "onnx")])
def test_what_a_converter_raises_names_the_layer_the_reason_and_what_to_do(name, file_format, tmp_path):
    image = keras.layers.Input((8, 8, 3))
    odd = keras.layers.Lambda(lambda x: tf.linalg.qr(x)[0], name="odd")
    model = keras.Model(image, odd(keras.layers.Conv2D(4, 3)(image)), name="network")
    words = f"converter to {file_format} cannot express Lambda 'network/odd': .*Qr.*Replace 'odd'"
    with pytest.raises(ExportError, match=words):
        rb.export_model(model, tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("alpha"), "cannot express a layer of .*KeyError: 'alpha'"),
        (RuntimeError(""), "no reason"),
        (
            ValueError("bad op m_1/conv_1/BiasAdd here"),
            "cannot express Conv2D '.*conv': ValueError.*Leave 'conv' in float",
        ),
    ],
    ids=["no layer", "no words", "layer"],
)
def test_any_error_of_another_library_is_translated_and_kept_as_the_cause(error, words, model):
    def of_another_library():
        exec("def fail(error):\n raise error", namespace := {})
        namespace["fail"](error)

    with pytest.raises(ExportError, match=words) as caught, explained(model, "onnx", quantized=True):
        of_another_library()
    assert caught.value.__cause__ is error


def test_errors_of_files_pass_as_they_are(model):
    with pytest.raises(OSError, match="full"), explained(model, "onnx", quantized=False):
        raise OSError("full")
