"""``resnet-backbones predict``: what it prints and draws; and that it, and ``benchmark``, need no TensorFlow."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from resnet_backbones import runtime
from tests.cli.command_lines import CLASSES
from tests.runtime import fuzz_bases
from tests.support.processes import run_command, run_python, without

# Runs the command line where TensorFlow and Keras cannot be imported.
PACKAGES = ("tensorflow", "keras", "tf_keras", "keras_cv", "keras_hub", "tensorflow_model_optimization", "tf2onnx")
ALONE = (
    without(*PACKAGES)
    + """
from typer.testing import CliRunner
from resnet_backbones.cli import app as cli

folder = sys.argv[1]
files = [f"{folder}/classifier.tflite", f"{folder}/classifier.onnx"]
lines = [["predict", file, f"{folder}/street.jpg", "--out", sys.argv[2]] for file in files]
lines += [["benchmark", *files, "--runs", "2", "--threads", "1"], ["check", files[1]]]
for line in lines:
    done = CliRunner().invoke(cli.app, line)
    assert done.exit_code == 0, (line, done.output)
assert not absent & set(sys.modules)
print("done")
"""
)


def test_neither_predict_nor_benchmark_nor_check_needs_tensorflow(command_files, tmp_path):
    assert run_python(ALONE, command_files.folder, tmp_path / "out").splitlines()[-1] == "done"


def test_classes_are_those_of_the_runtime_and_pictures_are_written(command_files, tmp_path):
    file, street = command_files.folder / "classifier.tflite", command_files.folder / "street.jpg"
    (tmp_path / "other").mkdir()
    namesake = shutil.copy(street, tmp_path / "other" / "street.jpg")
    out = tmp_path / "deep" / "out"
    arguments = ("predict", file, street, namesake, "--letterbox", "--top", 2, "--out", out)
    result = run_command(*arguments, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    expected = runtime.load(file).predict([street], top_k=2, resize="letterbox")[0]
    assert told["task"] == "image_classifier"
    assert [one["names"] for one in told["images"]] == [expected.names] * 2
    np.testing.assert_allclose(told["images"][0]["scores"], expected.scores)
    pictures = [one["picture"] for one in told["images"]]
    assert pictures == [str(out / "street.predicted.png"), str(out / "street-2.predicted.png")]
    with Image.open(pictures[0]) as picture:
        assert picture.format == "PNG"
        assert picture.width >= 200  # the photograph's, and the classes written below
        assert picture.height > 120
    table = run_command(*arguments).stdout
    assert expected.names[0] in table
    assert f"{expected.scores[0]:.3f}" in table
    assert expected.names[0] in CLASSES


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of other tasks, and a dark picture: their answers are in proportion to its mean, about 0.5."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "empty").mkdir()
    for name, data in fuzz_bases.onnx_files().items():
        (folder / name).write_bytes(data)
    random = np.random.default_rng(3)
    Image.fromarray(random.integers(0, 2, (50, 70, 3), "uint8")).save(folder / "picture.png")
    return folder


def test_boxes_are_printed_and_fewer_at_a_higher_confidence(pictures, tmp_path):
    def boxes(*options):
        result = run_command(
            "predict", pictures / "yolo.onnx", pictures / "picture.png", "--out", tmp_path, *options, "--json"
        )
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["images"][0]["boxes"]

    assert 0 < len(boxes("--confidence", "0.5")) < len(boxes("--confidence", "0.3"))
    model = runtime.load(pictures / "yolo.onnx")
    stretched, letterboxed = ["--resize", "stretch"], ["--resize", "letterbox"]
    given = (([], "stretch"), (stretched, "stretch"), (letterboxed, "letterbox"), (["--letterbox"], "letterbox"))
    for options, resize in given:
        (expected,) = model.predict(pictures / "picture.png", resize=resize)
        assert len(expected) > 0
        np.testing.assert_array_equal(boxes(*options), expected.boxes)
    assert boxes() != boxes("--letterbox")
    for wrong in (["--resize", "crop"], ["--letterbox", "--resize", "stretch"]):
        refused = run_command("predict", pictures / "yolo.onnx", pictures / "picture.png", *wrong)
        assert refused.exit_code == 2
        assert "--resize" in refused.output
    printed = run_command(
        "predict", pictures / "yolo.onnx", pictures / "picture.png", "--out", tmp_path, "--confidence", 0.3
    )
    assert "box, xywh" in printed.stdout
    nothing = run_command("predict", pictures / "yolo.onnx", pictures / "picture.png", "--no-draw", "--confidence", 1)
    assert "nothing found" in nothing.stdout


def test_segments_are_shares_and_another_backend_agrees(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ("predict", pictures / "segmenter.onnx", pictures / "picture.png", "--no-draw", "--threads", 1)
    here, there = run_command(*arguments, "--json"), run_command(*arguments, "--json", "--backend", "openvino")
    assert here.exit_code == there.exit_code == 0
    assert json.loads(here.stdout)["images"] == json.loads(there.stdout)["images"]
    assert "share" in run_command(*arguments).stdout
    assert not list(tmp_path.iterdir())


@pytest.fixture
def photos(pictures, tmp_path):
    """A folder with pictures, one of them broken, another file, and a folder with one more picture."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("b.png", "a.PNG", "more/c.png"):
        shutil.copy(pictures / "picture.png", folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.parametrize(
    ("name", "keys"), [("yolo", "box box_format score"), ("float", "score"), ("segmenter", "share")]
)
def test_each_thing_found_is_one_object_of_json(pictures, photos, tmp_path, name, keys):
    """--jsonl, a line each; and the same objects in --json, beside what it held before."""
    arguments = ("predict", pictures / f"{name}.onnx", photos, "--out", tmp_path / "out", "--confidence", 0.3)
    document = json.loads(run_command(*arguments, "--json").stdout)
    lines = run_command(*arguments, "--jsonl")
    assert lines.exit_code == 0
    records = [json.loads(line) for line in lines.stdout.splitlines()]
    assert all(record.pop("file") == str(pictures / f"{name}.onnx") for record in records)
    assert records == document["detections"]
    assert set(records[0]) == {"image", "picture", "class", "name", *keys.split()}
    assert [one["image"] for one in document["images"]] == [str(photos / "a.PNG"), str(photos / "b.png")]
    if name == "yolo":
        flat = [box for one in document["images"] for box in one["boxes"]]
        assert [record["box"] for record in records] == flat
        assert len(flat) > 2
    assert {record["picture"] for record in records} == {
        str(tmp_path / "out" / f"{stem}.predicted.png") for stem in "ab"
    }


def test_folders_within_are_taken_when_asked_but_not_what_was_written(pictures, photos):
    arguments = ("predict", pictures / "yolo.onnx", photos, "--out", photos / "out", "--recursive", "--json")
    for _ in range(2):
        images = [one["image"] for one in json.loads(run_command(*arguments).stdout)["images"]]
        assert images == [str(photos / name) for name in ("a.PNG", "b.png", "more/c.png")]


def test_a_broken_picture_in_a_folder_is_left_out_and_said(pictures, photos):
    (photos / "aa.jpg").write_text("no picture")
    result = run_command("predict", pictures / "yolo.onnx", photos, "--no-draw", "--json")
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["images"]) == 2
    assert "Left out" in result.stderr
    assert "aa.jpg cannot be read as a picture" in result.stderr


def test_json_and_lines_at_once_are_refused(pictures):
    assert run_command("predict", pictures / "yolo.onnx", pictures / "picture.png", "--json", "--jsonl").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["float.onnx", "empty"], "There are no pictures in empty"),
        (["gone.onnx", "picture.png"], "gone.onnx"),
        (["float.onnx", "gone.png"], "no picture gone.png"),
        (["float.onnx", "yolo.onnx"], "cannot be read as a picture"),
        (["float.onnx", "picture.png", "--backend", "litert"], "litert runs .tflite files"),
        (["picture.png", "picture.png"], "picture.png"),
    ],
)
def test_mistakes_are_one_line_and_draw_nothing(pictures, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(pictures)
    result = run_command("predict", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [("--confidence", "2"), ("--top", "0"), ("--threads", "0"), ("--treads", "1")])
def test_a_mistyped_line_exits_with_2(pictures, option):
    assert run_command("predict", pictures / "float.onnx", pictures / "picture.png", *option).exit_code == 2
