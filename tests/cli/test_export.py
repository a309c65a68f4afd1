"""``resnet-backbones export`` and ``check``: files, reports, exit codes, messages."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from resnet_backbones import runtime
from resnet_backbones.cli.images import read_images
from resnet_backbones.export.report import parity
from resnet_backbones.keras_compat import keras
from tests.cli.command_lines import CLASSES, SIZE
from tests.support.processes import run_command


def one_line_error(result):
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert result.stdout == ""
    return line


def test_a_float_model_is_quantized_with_the_photographs_given(command_files):
    result = command_files.exported["classifier.tflite"]
    assert result.exit_code == 0, result.output
    assert "PASSED\n" in result.stdout
    report = json.loads((command_files.folder / "classifier.tflite.report.json").read_text())
    assert report["precision"] == "int8"
    assert report["int8_mac_share"] == 1
    assert report["parity"][0]["values"] == 6 * len(CLASSES)  # all photographs, those in the inner folder too
    assert runtime.load(command_files.folder / "classifier.tflite").metadata["class_names"] == CLASSES


def test_an_onnx_file_for_tensorrt_passes_its_rules(command_files):
    assert command_files.exported["classifier.onnx"].exit_code == 0, command_files.exported["classifier.onnx"].output
    result = run_command("check", command_files.folder / "classifier.onnx")
    assert result.exit_code == 0, result.output
    assert "TensorRT Q/DQ: ok" in result.stdout
    found = json.loads(run_command("check", command_files.folder / "classifier.onnx", "--json").stdout)
    assert found["ok"]
    assert found["fused"]["Conv in int8"] == 14


def test_what_breaks_tensorrts_rules_exits_with_1(command_files, tmp_path):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(command_files.folder / "classifier.onnx")
    zero_points = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    tensor = next(one for one in model.graph.initializer if one.name in zero_points)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.int8(3), tensor.name))
    onnx.save(model, tmp_path / "shifted.onnx")
    result = run_command("check", tmp_path / "shifted.onnx")
    assert result.exit_code == 1
    assert "not ok" in result.stdout


def test_what_is_no_onnx_file_is_one_line(command_files, tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"not a model")
    assert "no.onnx" in one_line_error(run_command("check", tmp_path / "no.onnx"))
    assert "gone.onnx" in one_line_error(run_command("check", tmp_path / "gone.onnx"))


def test_a_report_that_fails_exits_with_1_and_is_kept(command_files, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "COSINE", 1.5)
    images = tmp_path / "images.npy"
    np.save(images, np.random.default_rng(0).integers(0, 255, (3, SIZE, SIZE, 3), "uint8"))
    out, report = tmp_path / "copy.keras", tmp_path / "copy.md"
    result = run_command(
        "export", command_files.folder / "classifier.keras", out, "--parity-data", images, "--limit", 2, "--report",
        report, "--json",
    )  # fmt: skip
    assert result.exit_code == 1, result.output
    told = json.loads(result.stdout)
    assert told["passed"] is False
    assert told["parity"][0]["values"] == 2 * len(CLASSES)
    assert told["report"] == str(report)
    assert "FAILED" in report.read_text()
    assert (tmp_path / "copy.png").read_bytes().startswith(b"\x89PNG")
    assert out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int8"], "is a float model"),
        (["--precision", "float32", "--calibration-data", "photos"], "is for int8 and int16x8, not for float32"),
        (["--calibration-data", "photos", "--scheme", "edge_int"], "Did you mean 'edge_int8'"),
        (["--parity-data", "nowhere"], "no file or folder nowhere"),
        (["--report", "nowhere/report.md"], "there is no folder "),
        (["--layout", "NCHW"], "--layout cannot be chosen for format 'litert'"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    command_files, loaded, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(command_files.folder)
    assert message in one_line_error(run_command("export", "classifier.keras", tmp_path / "out.tflite", *options))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def loaded(command_files, monkeypatch):
    """The model is loaded once for all refusals: none of them changes it."""
    from resnet_backbones import saving

    if not hasattr(command_files, "model"):
        command_files.model = saving.load_model(command_files.folder / "classifier.keras", compile=False)
    monkeypatch.setattr(saving, "load_model", lambda *_, **__: command_files.model)


def test_a_model_that_is_not_there_is_one_line(tmp_path):
    assert "gone.keras" in one_line_error(run_command("export", tmp_path / "gone.keras", tmp_path / "out.tflite"))


@pytest.mark.parametrize(
    "options",
    [["--batch", "0"], ["--batch", "many"], ["--report", "out.pdf"], ["--scheme", "edge_int8"], ["--limit", "0"]],
)
def test_a_mistyped_line_exits_with_2(options, tmp_path):
    result = run_command("export", tmp_path / "model.keras", tmp_path / "out.tflite", *options)
    assert result.exit_code == 2
    assert options[0] in result.stderr


def test_pictures_come_in_the_models_size_and_range(command_files):
    photos = command_files.folder / "photos"
    plain = read_images(photos, (32, 48, 3), (0.0, 255.0), 100)
    assert plain.shape == (6, 32, 48, 3)
    assert plain.max() > 1
    scaled = read_images(photos, (32, 48, 3), (-1.0, 1.0), 3)
    np.testing.assert_allclose(scaled, plain[[0, 2, 4]] / 127.5 - 1, atol=1e-5)  # evenly spread
    assert read_images(photos, (32, 48, 1), (0.0, 255.0), 1).shape == (1, 32, 48, 1)


def test_images_that_do_not_fit_are_refused(tmp_path):
    def refused(path):
        with pytest.raises(ValueError, match=path.name) as raised:
            read_images(path, (8, 8, 3), (0.0, 255.0), 10)
        return str(raised.value)

    for name, array in (("size", np.zeros((2, 9, 8, 3))), ("none", np.zeros((0, 8, 8, 3))), ("flat", np.zeros(4))):
        np.save(tmp_path / f"{name}.npy", array)
        assert "(N, 8, 8, 3)" in refused(tmp_path / f"{name}.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("not an array")
    for name in ("objects", "empty", "text"):
        assert "no whole .npy" in refused(tmp_path / f"{name}.npy")
    (tmp_path / "folder").mkdir()
    assert "no pictures" in refused(tmp_path / "folder")


@pytest.fixture(scope="module")
def any_size(tmp_path_factory):
    """A folder with a float model for images of any size, one for 32 x 24, and images of 32 x 24."""
    folder = tmp_path_factory.mktemp("any_size")
    for name, size in (("any", (None, None)), ("fixed", (32, 24))):
        image = keras.layers.Input((*size, 3))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(image))
        keras.Model(image, keras.layers.Dense(3)(x)).save(folder / f"{name}.keras")
    np.save(folder / "images.npy", np.random.default_rng(0).uniform(0, 1, (3, 32, 24, 3)).astype("float32"))
    return folder


@pytest.mark.parametrize("options", [(), ("--calibration-data", "images.npy", "--parity-data", "images.npy")])
@pytest.mark.parametrize(("model", "out"), [("any", "m.tflite"), ("any", "m.onnx"), ("fixed", "m.tflite")])
def test_a_model_for_any_size_is_exported_for_the_one_named(any_size, tmp_path, monkeypatch, model, out, options):
    monkeypatch.chdir(any_size)
    result = run_command("export", f"{model}.keras", tmp_path / out, "--input-shape", 32, 24, 3, *options)
    assert result.exit_code == 0, result.output
    assert sorted(runtime.load(tmp_path / out).input_shape) == [1, 3, 24, 32]


@pytest.mark.parametrize("options", [(), ("--calibration-data", "images.npy"), ("--parity-data", "images.npy")])
@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ("any", None, "--input-shape 512 512 3|input_shape=\\(512, 512, 3\\)"),
        ("any", (32, 24, 1), r"takes \(None, None, 3\) without the batch"),
        ("fixed", (48, 24, 3), r"takes \(32, 24, 3\) without the batch"),
    ],
)
def test_a_size_the_model_does_not_take_is_one_line(any_size, tmp_path, monkeypatch, model, shape, message, options):
    monkeypatch.chdir(any_size)
    given = () if shape is None else ("--input-shape", *shape)
    assert re.search(
        message, one_line_error(run_command("export", f"{model}.keras", tmp_path / "m.tflite", *given, *options))
    )
    assert not list(tmp_path.iterdir())


def test_images_of_another_size_than_named_are_one_line(any_size, tmp_path, monkeypatch):
    monkeypatch.chdir(any_size)
    given = ("--input-shape", 24, 32, 3, "--calibration-data", "images.npy")
    assert "the model takes images (N, 24, 32, 3)" in one_line_error(
        run_command("export", "any.keras", tmp_path / "m.tflite", *given)
    )
    said = one_line_error(run_command("export", "any.keras", tmp_path / "m.keras", "--input-shape", 32, 24, 3))
    assert "--input-shape cannot be chosen for format 'keras'" in said


@pytest.mark.parametrize("shape", [(0, 24, 3), (32, -1, 3), (32, 24), (9, 9, "three"), ("9x9", 3, 3), (9.5, 9, 3)])
def test_what_is_no_size_exits_with_2(any_size, tmp_path, shape):
    result = run_command("export", any_size / "any.keras", tmp_path / "m.tflite", "--input-shape", *shape)
    assert result.exit_code == 2, result.output
    assert "--input-shape" in result.stderr
