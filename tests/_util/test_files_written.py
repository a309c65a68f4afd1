"""Every place where the library writes: links are followed, permissions kept, leftovers removed, long names taken."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import resnet_backbones as rb
from resnet_backbones._util import files
from resnet_backbones.cli.compare import plot
from resnet_backbones.export.contents import Census
from resnet_backbones.export.report.report import ExportReport
from resnet_backbones.export.tensorrt import build
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.analysis.report import QuantizationReport
from resnet_backbones.quantization.backup import files as backup_files
from resnet_backbones.weights.files import convert
from tests._util.test_files import LONGEST, mode, umask
from tests.cli.test_compare import FOUR
from tests.support.processes import run_command


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What is written: a model, a backbone, a report, an ONNX file, a picture."""
    folder = tmp_path_factory.mktemp("given")
    image = keras.layers.Input((16, 16, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, activation="relu")(image), name="tiny")
    spec = rb.ResNetSpec(block="basic", depths=(1,), widths=(8,), stem_width=8)
    report = ExportReport(Path("tiny.tflite"), "float32", 1, Census(), {})
    Image.new("RGB", (20, 20)).save(folder / "street.png")
    (folder / "tiny.onnx").write_bytes(b"what a stand-in for TensorRT is given")
    backbone = rb.create_backbone(spec, input_shape=(32, 32, 3))
    rb.weights.save(backbone, folder / "weights.npz")
    rb.export_model(rb.adapters.keras_cv.image_classifier(backbone, num_classes=2), folder / "tiny.tflite")
    return SimpleNamespace(folder=folder, model=model, backbone=backbone, report=report)


def analysed(path):
    QuantizationReport("tiny", 1, 20.0, ()).plot(path)


def engine(given, path):
    """What ``tensorrt.build`` writes, with stand-ins for TensorRT and a GPU."""
    module = build.__globals__
    fakes = {
        "_tensorrt": lambda: SimpleNamespace(__version__="10"),
        "Cuda": lambda: SimpleNamespace(name="none"),
        "_build": lambda *_: b"engine",
        "_time": lambda *_: [1.0],
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, fake in fakes.items():
            patch.setitem(module, name, fake)
        build(given.folder / "tiny.onnx", engine=path)


# suffix -> what writes such a file (or folder: without a suffix)
WRITERS = {
    ".safetensors": lambda given, path: rb.weights.save(given.backbone, path),
    ".npz": lambda given, path: rb.weights.save(given.backbone, path),
    ".weights.h5": lambda given, path: rb.weights.save(given.backbone, path),
    ".converted.npz": lambda given, path: convert(given.backbone, given.folder / "weights.npz", path),
    ".tflite": lambda given, path: rb.export_model(given.model, path),
    ".onnx": lambda given, path: rb.export_model(given.model, path),
    ".keras": lambda given, path: rb.export_model(given.model, path),
    "": lambda given, path: rb.export_model(given.model, path),
    ".json": lambda given, path: given.report.save(path),
    ".txt": lambda given, path: given.report.save(path),
    ".md": lambda given, path: given.report.save(path),
    ".png": lambda _, path: plot(FOUR, path, "made up", None, None),
    ".analysis.png": lambda _, path: analysed(path),
    ".engine": engine,
}
every_writer = pytest.mark.parametrize(("suffix", "write"), WRITERS.items(), ids=[s or "folder" for s in WRITERS])


@every_writer
def test_what_is_written_is_new_whole_and_of_usual_permissions(tmp_path, given, suffix, write):
    path = tmp_path / ("w" * (LONGEST - len(suffix)) + suffix)
    with umask(0o027):
        write(given, path)
    picture = files.beside(path.with_suffix(""), ".png").name
    assert {*os.listdir(tmp_path)} == {path.name, *([picture] if suffix == ".md" else [])}
    assert mode(path) == (0o640 if suffix else 0o750)
    assert files.size_of(path) > 0


@every_writer
def test_a_link_is_followed_permissions_stay_and_leftovers_go(tmp_path, given, suffix, write):
    target, link = tmp_path / f"target{suffix}", tmp_path / f"link{suffix}"
    link.symlink_to(target.name)
    if suffix:
        target.write_text("old")
    else:
        target.mkdir()
    target.chmod(0o711)
    (tmp_path / f".resnet_backbones-{files._digest(target.name)}-left").mkdir()
    write(given, link)
    assert link.readlink() == Path(target.name)
    assert mode(target) == 0o711
    assert files.size_of(target) > 3
    assert {*os.listdir(tmp_path)} == {target.name, link.name, *(["link.png"] if suffix == ".md" else [])}


@every_writer
def test_what_is_there_and_not_to_be_replaced_stays(tmp_path, given, suffix, write):
    path = tmp_path / f"results{suffix}"
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    with pytest.raises(OSError, match=re.escape(f"Cannot write {path}")):
        write(given, path)
    assert os.listdir(tmp_path) == [path.name]
    assert (path / "notes.txt").read_text() == "mine"


def test_the_picture_of_a_report_replaces_the_picture_of_a_report_only(tmp_path, given):
    report = dataclasses.replace(given.report)
    (tmp_path / "holiday.png").write_bytes(b"mine")
    with pytest.raises(OSError, match=r"holiday\.png.*no report wrote: rename it, or choose another path"):
        report.save(tmp_path / "holiday.md")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"holiday.png": b"mine"}
    report.save(tmp_path / "work.md")
    first = (tmp_path / "work.png").read_bytes()
    (tmp_path / "work.md").unlink()
    report.save(tmp_path / "work.md")  # its own, by a mark in it
    (tmp_path / "work.png").write_bytes(first.replace(b"resnet-backbones", b"Matplotlib 3.10."))
    report.save(tmp_path / "work.md")  # version 0.1.0 left no mark: the text beside it shows it
    assert (tmp_path / "work.png").read_bytes() == first


def test_predictions_go_where_they_are_asked_for(tmp_path, given):
    name, file = "p" * 251 + ".png", given.folder / "tiny.tflite"
    (tmp_path / name).write_bytes((given.folder / "street.png").read_bytes())
    (tmp_path / "out").symlink_to("real")
    (tmp_path / "real").mkdir()
    for _ in range(2):
        result = run_command("predict", file, tmp_path / name, tmp_path / name, "--out", tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert len(os.listdir(tmp_path / "real")) == 2
    (tmp_path / "file").write_text("mine")
    assert run_command("predict", file, tmp_path / name, "--out", tmp_path / "file").exit_code == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_the_commands_write_no_file_they_read(tmp_path, given):
    given.model.save(tmp_path / "tiny.keras")
    rb.weights.save(given.backbone, tmp_path / "in.npz")
    (tmp_path / "names.txt").write_text("a\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model, names = tmp_path / "tiny.keras", tmp_path / "names.txt"
    for words in (
        ("export", model, model),
        ("export", model, tmp_path / "out.tflite", "--report", names, "--class-names", names),
        ("convert", "--name", "resnet18", tmp_path / "in.npz", tmp_path / "in.npz"),
    ):
        result = run_command(*words)
        assert result.exit_code == 1
        assert "would be read and replaced: choose another path to write to." in result.stderr
    with pytest.raises(ValueError, match="would be read and replaced"):
        build(given.folder / "tiny.onnx", engine=given.folder / "tiny.onnx")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_backup_leaves_what_others_put_beside_it(tmp_path):
    """Folders of such names, files, and what only looks half-written, with numbers above and below its own."""
    (tmp_path / "backup-00000000").write_text("mine")
    for name in ("backup-00000001", "backup-20260131", ".writing-notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.jpg").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "backup-00000002").symlink_to("elsewhere")
    theirs = set(os.listdir(tmp_path))
    state = {"variables": {"model": [["a", [2], "int64"]]}}
    for number in range(3):
        folder = backup_files.write_backup(tmp_path, {**state, "n": number}, {"model": [np.arange(2)]})
        assert backup_files.newest_backup(tmp_path) == folder
        assert {*os.listdir(tmp_path)} - theirs == {folder.name}
    (tmp_path / ".writing-abc").mkdir()
    backup_files.remove_backups(tmp_path)
    assert set(os.listdir(tmp_path)) == theirs
    assert (tmp_path / "backup-20260131" / "photo.jpg").read_text() == "mine"


def test_a_directory_of_backups_that_is_a_link_ends_without_an_error(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    backup_files.write_backup(tmp_path / "link", {"variables": {}}, {})
    backup_files.remove_backups(tmp_path / "link")
    assert os.listdir(tmp_path / "real") == []
