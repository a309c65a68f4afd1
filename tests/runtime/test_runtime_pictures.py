"""Images from files, letterbox, and results in pixels of the image as it was given."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from resnet_backbones import runtime
from resnet_backbones.runtime import append_metadata
from resnet_backbones.runtime.feeding import letterboxed, place
from resnet_backbones.runtime.images import as_image, as_image_list
from tests.runtime import onnx_models
from tests.runtime.fuzz_bases import described
from tests.runtime.tiny_models import SIZE, detector_metadata

ORIENTATION = 0x0112  # the EXIF tag


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype("uint8")


def test_paths_and_pil_images_are_read(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    mixed = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture), picture]
    for image in as_image_list(mixed, 3):
        np.testing.assert_array_equal(image, picture)
    for alone in mixed[:3]:
        (image,) = as_image_list(alone, 3)
        np.testing.assert_array_equal(image, picture)


@pytest.mark.parametrize(("mode", "channels"), [("L", 3), ("RGBA", 3), ("P", 3), ("RGB", 1), ("L", 4)])
def test_files_are_converted_to_the_channels_of_the_model(picture, tmp_path, mode, channels):
    Image.fromarray(picture).convert(mode).save(tmp_path / "a.png")
    assert as_image(tmp_path / "a.png", channels).shape == (20, 30, channels)


def test_a_camera_s_orientation_is_honoured(picture, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned by 90 degrees, clockwise
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(as_image(tmp_path / "a.png", 3), np.rot90(picture, -1))
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(as_image(opened, 3), np.rot90(picture, -1))


def test_files_that_are_no_pictures_are_errors(picture, tmp_path):
    with pytest.raises(FileNotFoundError, match="no picture"):
        as_image(tmp_path / "absent.png", 3)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="cannot be read"):
        as_image(tmp_path / "text.png", 3)
    Image.fromarray(picture).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        as_image(tmp_path / "cut.png", 3)
    with pytest.raises(ValueError, match="7 channels"):
        as_image(Image.fromarray(picture), 7)


def test_without_pillow_a_path_says_which_extra_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"resnet-backbones\[images\]"):
        as_image("a.png", 3)


@pytest.mark.parametrize(
    ("image", "rectangle"),
    [
        ((100, 200), (16, 0, 32, 64)),
        ((200, 100), (0, 16, 64, 32)),
        ((64, 64), (0, 0, 64, 64)),
        ((1, 5000), (31, 0, 1, 64)),
    ],
    ids=str,
)
def test_letterbox_keeps_the_aspect_and_pads_with_grey(image, rectangle):
    into = np.zeros((64, 64, 3), "float32")
    found = place(np.full((*image, 3), 7, "uint8"), into, "letterbox")
    assert (found.top, found.left, found.height, found.width) == rectangle
    top, left, height, width = rectangle
    assert (into[top : top + height, left : left + width] == 7).all()
    assert (into == 114).sum() == into.size - height * width * 3


def test_letterboxed_boxes_come_back_to_the_image_and_are_cut_at_its_border():
    found = letterboxed((100, 200), (64, 64)).to_image(
        np.array([[16, 0, 48, 64], [0, 0, 64, 64], [20, 8, 30, 40]], "float32")
    )
    np.testing.assert_allclose(found, [[0, 0, 100, 200], [0, 0, 100, 200], [12.5, 25, 43.75, 125]])


def test_detections_of_a_letterboxed_image_are_in_its_own_pixels(detector, tmp_path):
    """A wide image, and the same one half as large and within grey bars, as the input has it."""
    scaling = {"shape": [1, *SIZE, 3], "scale": 1 / 255, "offset": 0.0}
    (tmp_path / "d.tflite").write_bytes(append_metadata(detector.flatbuffer, detector_metadata(input=scaling)))
    model = runtime.load(tmp_path / "d.tflite")
    image = runtime.images.resize_bilinear(np.random.default_rng(5).uniform(0, 255, (4, 12, 3)), 32, 96)
    padded = np.full((64, 96, 3), 114, "float32")
    padded[16:48] = image
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    ours, theirs = model.predict([large], resize="letterbox")[0], model.predict(padded)[0]
    assert len(ours) == len(theirs) > 0
    assert ours.box_format == "xywh"
    left, top, width, height = theirs.boxes.T
    corners = np.stack([left, top - 16, left + width, top + height - 16], axis=1) * 2
    corners = np.clip(corners, 0, [192, 64, 192, 64])
    expected = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    np.testing.assert_allclose(ours.boxes, expected, atol=1e-3)
    with pytest.raises(ValueError, match="stretch, letterbox"):
        model.predict([large], resize="crop")


def segmenter(tmp_path, size=(64, 64)):
    """Three classes in vertical stripes, a quarter of the input's size."""
    scores = np.zeros((16, 16, 3))
    for number, columns in enumerate((slice(0, 4), slice(4, 8), slice(8, 16))):
        scores[:, columns, number] = 1
    metadata = {
        **described({"name": "segmentation", "num_classes": 3}, [1, *size, 3], ["output"]),
        "class_names": ["sky", "tree", "road"],
    }
    path = tmp_path / "s.onnx"
    path.write_bytes(runtime.append_metadata(onnx_models.answers({"output": scores}, size=size), metadata, "onnx"))
    return runtime.load(path)


def test_segmentation_is_of_the_image_s_own_size(tmp_path):
    (found,) = segmenter(tmp_path).predict(np.ones((50, 160, 3), "float32"))
    assert found.classes.shape == found.scores.shape == (50, 160)
    np.testing.assert_array_equal(found.classes[7], np.repeat([0, 1, 2], [40, 40, 80]))
    assert found.shares() == {2: 0.5, 0: 0.25, 1: 0.25}
    assert found.to_dict()["shares"][0] == {"class": 2, "name": "road", "share": 0.5}


def test_segmentation_of_a_letterboxed_image_leaves_the_bars_out(tmp_path):
    """A high image lies in the middle half of the input: the second stripe and half of the third."""
    (found,) = segmenter(tmp_path).predict(np.ones((200, 100, 3), "float32"), resize="letterbox")
    assert found.classes.shape == (200, 100)
    np.testing.assert_array_equal(found.classes[100], np.repeat([1, 2], [50, 50]))


def test_segmentation_equals_the_resized_scores(tmp_path):
    """In strips, as at once."""
    scores = np.random.default_rng(1).uniform(0, 1, (16, 16, 300))
    metadata = {**described({"name": "segmentation"}, [1, 64, 64, 3], ["output"]), "class_names": None}
    path = tmp_path / "s.onnx"
    path.write_bytes(runtime.append_metadata(onnx_models.answers({"output": scores}), metadata, "onnx"))
    model = runtime.load(path)
    image = np.ones((300, 100, 3), "float32")
    resized = runtime.images.resize_bilinear(model.raw(image)["output"][0], 300, 100)
    np.testing.assert_array_equal(model.predict(image)[0].classes, resized.argmax(-1))


def test_files_that_suppress_boxes_themselves(tmp_path):
    """Fractions of the image, best first, the rest padding."""
    values = {
        "boxes": np.array([[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1], [9, 9, 9, 9]]),
        "scores": np.array([0.9, 0.4, 0.0]),
        "classes": np.array([1.0, 0.0, 0.0]),
        "count": np.array([2.0]),
    }
    metadata = {
        **described({"name": "detections", "bounding_box_format": "xyxy"}, [1, 64, 64, 3], list(values)),
        "class_names": ["a", "b"],
    }
    metadata["input"]["offset"] = 0.0
    path = tmp_path / "d.onnx"
    path.write_bytes(runtime.append_metadata(onnx_models.answers(values), metadata, "onnx"))
    model = runtime.load(path)
    image = np.ones((100, 200, 3), "float32")
    (found,) = model.predict(image)
    np.testing.assert_allclose(found.boxes, [[40, 10, 120, 50], [0, 0, 200, 100]], rtol=1e-6)
    assert found.names == ["b", "a"]
    assert len(model.predict(image, confidence=0.5)[0]) == 1


def test_a_file_that_resizes_decodes_in_the_network_s_pixels(tmp_path):
    """``network_size``: the file takes 64 x 64, the network behind sees 32 x 32 and gives boxes there."""
    values = {"boxes": np.array([[8.0, 0, 16, 32]]), "scores": np.array([0.9]), "classes": np.array([0.0])}
    task = {"name": "detections", "bounding_box_format": "yxyx", "boxes": "yxyx"}
    metadata = {**described(task, [1, 64, 64, 3], list(values)), "class_names": None}
    metadata["input"] |= {"network_size": [32, 32], "offset": 0.0}
    path = tmp_path / "d.onnx"
    path.write_bytes(runtime.append_metadata(onnx_models.answers(values), metadata, "onnx"))
    (found,) = runtime.load(path).predict(np.ones((100, 200, 3), "float32"))
    np.testing.assert_allclose(found.boxes, [[25, 0, 50, 200]])
