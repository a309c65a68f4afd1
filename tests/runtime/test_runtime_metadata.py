from __future__ import annotations

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest

from resnet_backbones.runtime import append_metadata, load, read_metadata

METADATA = {"task": {"name": "tensors"}, "input": {}, "outputs": [], "class_names": ["été", "night"]}


@pytest.fixture
def file(detector, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(append_metadata(detector.flatbuffer, METADATA))
    return path


def test_what_was_written_is_read(file, detector):
    recorded = hashlib.sha256(detector.flatbuffer).hexdigest()
    assert read_metadata(file) == {"format": "resnet_backbones", "version": 1, "sha256": recorded, **METADATA}


def test_the_flatbuffer_is_untouched_and_the_file_still_runs(file, detector, images):
    assert file.read_bytes().startswith(detector.flatbuffer)
    assert load(file).raw(images[:1])["box_0"].shape == (1, 72, 4)


def test_any_zip_tool_finds_it(file):
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("resnet_backbones.json"))["task"] == {"name": "tensors"}


def test_the_same_input_gives_the_same_bytes(detector):
    assert append_metadata(detector.flatbuffer, METADATA) == append_metadata(detector.flatbuffer, METADATA)


def test_writing_again_replaces_it_and_keeps_other_files(detector, tmp_path):
    data = io.BytesIO(append_metadata(detector.flatbuffer, METADATA))
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("labels.txt", "a\nb")
    path = tmp_path / "model.tflite"
    path.write_bytes(append_metadata(data.getvalue(), {**METADATA, "class_names": None}))
    assert read_metadata(path)["class_names"] is None
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["labels.txt", "resnet_backbones.json"]
        assert archive.read("labels.txt") == b"a\nb"
    assert path.read_bytes().startswith(detector.flatbuffer)


def test_a_file_without_metadata_has_none(detector, tmp_path):
    path = tmp_path / "plain.tflite"
    path.write_bytes(detector.flatbuffer)
    assert read_metadata(path) is None


@pytest.mark.parametrize("cut", [1, 30, 60])
def test_metadata_cut_short_is_an_error(file, cut):
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(ValueError, match="cut short"):
        read_metadata(file)


def test_damaged_metadata_is_an_error(file, detector):
    data = bytearray(file.read_bytes())
    data[len(detector.flatbuffer) + 60] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        read_metadata(file)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({**METADATA, "version": 99}, "upgrade"),
        ({**METADATA, "format": "other"}, "not of this library"),
        ({"task": {"name": "tensors"}}, "lacks"),
        ({**METADATA, "outputs": [np.float32(1)]}, "plain JSON"),
        ({**METADATA, "outputs": [float("nan")]}, "plain JSON"),
    ],
)
def test_metadata_that_cannot_be_read_again_is_not_written(detector, metadata, words):
    with pytest.raises(ValueError, match=words):
        append_metadata(detector.flatbuffer, metadata)


def test_no_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_metadata(tmp_path / "absent.tflite")
    with pytest.raises(ValueError, match="folder"):
        read_metadata(tmp_path)
