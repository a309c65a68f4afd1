"""Pictures of every mode, size and reader; and those that must be refused, reduced or read in spite of their EXIF."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import socket
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from resnet_backbones import runtime
from resnet_backbones.runtime import Detections, Segmentation
from resnet_backbones.runtime import images as runtime_images
from resnet_backbones.runtime.images import as_image, read_image
from tests.runtime import onnx_models
from tests.runtime.fuzz_bases import described
from tests.support.processes import run_python

SIZES = [(1, 1), (1, 40), (33, 2), (24, 32)]
MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"]
MODES += ["I;16", "I;16L", "I;16B", "I;16N"]
FORMATS = {
    "png": "PNG",
    "tif": "TIFF",
    "jpg": "JPEG",
    "webp": "WEBP",
    "gif": "GIF",
    "ppm": "PPM",
    "bmp": "BMP",
    "jp2": "JPEG2000",
}


def ramp(height, width):
    """Grey that rises from 0 to 1 along the pixels."""
    return np.linspace(0, 1, height * width).reshape(height, width)


def in_mode(mode, height, width):
    """The ramp as a PIL image of a mode."""
    grey = ramp(height, width)
    if mode.startswith("I;16"):
        dtype = ">u2" if mode.endswith("B") else "<u2"
        data = np.round(grey * 65535).astype(dtype).tobytes()
        return Image.frombytes(mode, (width, height), data)
    if mode == "I":
        return Image.fromarray(np.round(grey * 65535).astype(np.int32))
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32))
    picture = Image.fromarray(np.round(grey * 255).astype(np.uint8))
    if mode == "LAB":
        colourless = np.zeros((height, width, 2), np.uint8)
        return Image.frombytes("LAB", (width, height), np.dstack([np.asarray(picture), colourless]).tobytes())
    for step in {"La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "PA": ("P", "PA")}.get(mode, (mode,)):
        picture = picture.convert(step)
    return picture


def expected(mode, height, width):
    grey = 255 * ramp(height, width)
    return np.where(grey.round() > 127, 255, 0) if mode == "1" else grey


def readers(picture, folder):
    """The same picture as Pillow's object and in each format that holds its mode."""
    yield "pil", picture, 1
    for suffix, name in FORMATS.items():
        path = folder / f"{picture.mode.replace(';', '')}.{suffix}"
        exact = name not in ("JPEG", "WEBP", "JPEG2000") and not (name == "GIF" and picture.mode in ("I", "F", "I;16"))
        try:
            picture.save(path, name)
        except (OSError, ValueError, KeyError):  # the format does not hold this mode
            continue
        with Image.open(path) as saved:
            same = saved.mode == picture.mode or {saved.mode, picture.mode} <= {"I", "I;16"}
        if same and (exact or (name == "JPEG2000" and picture.mode == "I;16")):
            yield suffix, path, 2


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_its_grey_whatever_reads_it(mode, tmp_path):
    cases = 0
    for (height, width), channels in itertools.product(SIZES, (1, 3, 4)):
        picture = in_mode(mode, height, width)
        if mode == "1":
            picture = picture.point(lambda value: value)  # dithered by Pillow: compare with what it holds
        wanted = np.asarray(picture.convert("L"), float) if mode == "1" else expected(mode, height, width)
        tolerance = 12 if mode == "LAB" else 1.01
        for name, source, _ in readers(picture, tmp_path):
            image = as_image(source, channels)
            assert image.dtype == np.uint8, name
            assert image.shape == (height, width, channels), name
            assert np.abs(image[..., : min(channels, 3)] - wanted[..., None]).max() <= tolerance, (name, height, width)
            cases += 1
    assert cases >= len(SIZES) * 3


def test_transparency_keeps_the_colour_beneath(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    alpha = np.linspace(0, 255, 64).reshape(8, 8, 1).astype(np.uint8)
    Image.fromarray(np.dstack([colours, alpha])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(as_image(tmp_path / "rgba.png", 3), colours)
    np.testing.assert_array_equal(as_image(tmp_path / "rgba.png", 4)[..., 3:], alpha)
    palette = Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    for transparency in (3, bytes(range(0, 160, 10))):
        palette.save(tmp_path / "p.png", transparency=transparency)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for channels, plain in ((3, "RGB"), (1, "L")):
                found = as_image(tmp_path / "p.png", channels)
                np.testing.assert_allclose(found, np.asarray(palette.convert(plain)).reshape(found.shape), atol=1)
        assert as_image(tmp_path / "p.png", 4)[..., 3].min() < 255


@pytest.mark.parametrize("white", [255, 65535, 2**31 - 1, 2**32 - 1])
def test_integers_of_32_bits_are_scaled_by_what_they_hold(white, tmp_path):
    values = np.round(ramp(4, 8) * white).astype(np.uint32 if white > 2**31 else np.int32)
    if white > 2**31:  # Pillow writes no unsigned integers: a signed file whose tag says otherwise
        signed = io.BytesIO()
        Image.fromarray(values.view(np.int32)).save(signed, "TIFF")
        tag, count = (339).to_bytes(2, "little") + b"\3\0", b"\1\0\0\0"
        assert signed.getvalue().count(tag + count + b"\2") == 1
        (tmp_path / "a.tif").write_bytes(signed.getvalue().replace(tag + count + b"\2", tag + count + b"\1"))
    else:
        Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_allclose(as_image(tmp_path / "a.tif", 1)[..., 0], 255 * ramp(4, 8), atol=1)


def test_twelve_bits_are_scaled_by_4095():
    picture = Image.fromarray(np.round(ramp(4, 8) * 4095).astype(np.uint16))
    picture.tag_v2 = {258: (12,)}
    np.testing.assert_allclose(as_image(picture, 1)[..., 0], 255 * ramp(4, 8), atol=1)


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0, 4e9])
def test_floats_are_scaled_by_what_they_hold(white, tmp_path):
    Image.fromarray((ramp(4, 8) * white).astype(np.float32)).save(tmp_path / "a.tif")
    np.testing.assert_allclose(as_image(tmp_path / "a.tif", 1)[..., 0], 255 * ramp(4, 8), atol=1 if white < 4e9 else 20)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, -1.0, 1e20])
def test_grey_without_a_black_and_white_is_refused(wrong, tmp_path):
    values = ramp(4, 8).astype(np.float32)
    values[1, 2] = wrong
    Image.fromarray(values).save(tmp_path / "a.tif")
    for source in (tmp_path / "a.tif", Image.fromarray(values)):
        with pytest.raises(ValueError, match="NaN or infinity|do not say what is black or white"):
            as_image(source, 3)


def test_dark_pictures_of_16_bits_stay_dark(tmp_path):
    Image.fromarray(np.full((4, 4), 514, np.uint16)).save(tmp_path / "a.png")
    assert (as_image(tmp_path / "a.png", 3) == 2).all()


def broken_exifs():
    good = Image.Exif()
    good[0x0112] = 6
    whole = good.tobytes()
    yield "cut", whole[:-7], None
    yield "empty", b"Exif\0\0", None
    yield "far", whole[:10] + b"\xff\xff\xff\x7f" + whole[14:], None
    yield "no tiff", b"Exif\0\0" + bytes(range(40)), None
    yield "of text", whole.replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02"), None
    for value in (0, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = value
        yield f"turned by {value}", exif.tobytes(), None
    yield "whole", whole, 6


@pytest.mark.parametrize(
    ("block", "turn"), [case[1:] for case in broken_exifs()], ids=[case[0] for case in broken_exifs()]
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_exif_block_is_ignored(block, turn, suffix, tmp_path):
    picture = Image.fromarray(np.round(255 * ramp(8, 24)).astype(np.uint8)).convert("RGB")
    picture.save(tmp_path / f"a.{suffix}", exif=block)
    assert as_image(tmp_path / f"a.{suffix}", 3).shape == ((24, 8, 3) if turn else (8, 24, 3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation, tmp_path):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 9, 3)).astype(np.uint8)).save(
        tmp_path / "a.png", exif=exif
    )
    with Image.open(tmp_path / "a.png") as opened:
        turned = np.asarray(ImageOps.exif_transpose(opened))
    image, size = read_image(tmp_path / "a.png", 3)
    np.testing.assert_array_equal(image, turned)
    assert size == turned.shape[:2]


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(tmp_path):
        bound.bind("socket.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    for name in ("pipe.png", "socket.png", "link.png"):
        with pytest.raises(ValueError, match="a pipe, a socket or a device"):
            as_image(tmp_path / name, 3)
    with pytest.raises(ValueError, match="a pipe, a socket or a device"):
        as_image("/dev/zero", 3)
    with pytest.raises(ValueError, match="it is a folder"):
        as_image(tmp_path / "folder.png", 3)
    with pytest.raises(FileNotFoundError, match="no picture"):
        as_image(tmp_path / "nowhere.png", 3)
    with pytest.raises(ValueError, match="cannot be read"):
        as_image("a\0b.png", 3)


def test_pictures_that_other_programs_draw_are_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    with pytest.raises(ValueError, match="EPS files are drawn by other programs"):
        as_image(tmp_path / "a.eps", 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "webp", "jp2", "bmp", "ppm"])
def test_damaged_files_are_a_value_error(suffix, tmp_path):
    """Cut short, or with bytes changed: a picture or a ValueError, never another error."""
    random = np.random.default_rng(1)
    Image.fromarray(random.integers(0, 255, (24, 32, 3)).astype(np.uint8)).save(tmp_path / f"a.{suffix}")
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    refused = 0
    for number in range(60):
        data = bytearray(whole)
        if number % 3 == 0:
            data = data[: random.integers(1, len(data))]
        else:
            for at in random.integers(0, min(len(data), 200 if number % 2 else len(data)), 8):
                data[at] = random.integers(0, 256)
        (tmp_path / f"b.{suffix}").write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert as_image(tmp_path / f"b.{suffix}", 3).dtype == np.uint8
        except ValueError as error:
            assert "cannot be read as a picture" in str(error)  # noqa: PT017 - some are read
            refused += 1
    assert refused > 0


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(runtime_images, "MOST_PIXELS", 3000)


@pytest.mark.parametrize("mode", MODES)
def test_oversized_pictures_are_reduced(mode, small_limit, tmp_path):
    """62 x 130 pixels are 31 x 65: as PIL image, and in the formats that hold the mode."""
    picture = in_mode(mode, 62, 130)
    for name, source, _ in readers(picture, tmp_path):
        image, size = read_image(source, 3)
        assert (image.shape, size) == ((31, 65, 3), (62, 130)), name
        assert image[-1].mean() > 200 > 60 > image[0].mean(), name


def test_jpeg_files_are_reduced_while_they_are_decoded(small_limit, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    in_mode("RGB", 62, 130).save(tmp_path / "a.jpg", exif=exif)
    monkeypatch.setattr(Image.Image, "reduce", None)
    image, size = read_image(tmp_path / "a.jpg", 3)
    assert (image.shape, size) == ((65, 31, 3), (130, 62))


def test_a_large_jpeg_takes_little_memory(tmp_path):
    """100 megapixels: 400 MB as Pillow decodes it whole, 25 reduced by 4."""
    Image.new("L", (10000, 10000), 90).save(tmp_path / "a.jpg")
    code = (
        "import pathlib, re, sys; from resnet_backbones.runtime.images import read_image\n"
        "image, size = read_image(sys.argv[1], 3); print(image.shape, size)\n"
        "print(re.search('VmHWM: *\\t* *(.*) kB', pathlib.Path('/proc/self/status').read_text())[1])"
    )
    told = run_python(code, tmp_path / "a.jpg")
    assert told.startswith("(5000, 5000, 3) (10000, 10000)")
    assert int(told.split()[-1]) < 350_000  # KB


def test_decompression_bombs_are_refused(tmp_path):
    """A PNG of 40,000 x 40,000 pixels in 200 kB."""

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = (40000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    pixels = zlib.compress(bytes(5001) * 400, 9)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    with pytest.raises(ValueError, match="decompression bomb"):
        as_image(tmp_path / "a.png", 3)


def detector(tmp_path, boxes, changes=()):
    task = {"name": "detections", "bounding_box_format": "xyxy"}
    values = {"boxes": np.array(boxes, float), "scores": np.array([0.9]), "classes": np.array([0.0])} | dict(changes)
    metadata = {**described(task, [1, 64, 64, 3], list(values)), "class_names": None}
    metadata["input"]["offset"] = 0.0
    path = tmp_path / "d.onnx"
    path.write_bytes(runtime.append_metadata(onnx_models.answers(values), metadata, "onnx"))
    return runtime.load(path)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_boxes_on_a_reduced_picture_are_in_its_own_pixels_and_drawn_in_place(small_limit, tmp_path, resize):
    picture = Image.new("RGB", (128, 64), (1, 1, 1))  # the file multiplies its answers by the image's mean
    picture.save(tmp_path / "a.png")
    model = detector(tmp_path, [[0.25, 0.25, 0.75, 0.75]])
    (found,) = model.predict(tmp_path / "a.png", resize=resize)
    (whole,) = model.predict(np.asarray(picture), resize=resize)  # an array is not reduced
    np.testing.assert_allclose(found.boxes, whole.boxes)
    drawn = found.draw(tmp_path / "a.png", zoom=1)
    assert drawn.size == (64, 32)
    red = np.argwhere((np.asarray(drawn) == runtime.drawing.color_of(0)).all(-1))
    assert abs(red[:, 0].max() - found.boxes[0, 3] / 2) <= 2


def test_segments_of_a_reduced_picture_have_its_reduced_size(small_limit, tmp_path):
    in_mode("RGB", 62, 130).save(tmp_path / "a.png")
    scores = np.zeros((16, 16, 2))
    scores[:, 8:, 1] = scores[:, :8, 0] = 1
    metadata = {
        **described({"name": "segmentation", "num_classes": 2}, [1, 64, 64, 3], ["output"]),
        "class_names": None,
    }
    (tmp_path / "s.onnx").write_bytes(
        runtime.append_metadata(onnx_models.answers({"output": scores}), metadata, "onnx")
    )
    (found,) = runtime.load(tmp_path / "s.onnx").predict(tmp_path / "a.png")
    assert found.classes.shape == (31, 65)
    for zoom in (1, 3):
        assert found.draw(tmp_path / "a.png", zoom=zoom).size == (65 * zoom, 31 * zoom)
    assert Segmentation(np.zeros((62, 130), int)).draw(np.zeros((62, 130, 3), np.uint8), zoom=1).size == (65, 31)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e300])
def test_arrays_that_are_not_finite_are_refused_by_number(wrong, tmp_path):
    images = np.ones((3, 64, 64, 3))
    images[2, 1, 1, 1] = wrong
    model = detector(tmp_path, [[0, 0, 1, 1]])
    for run in (model.raw, model.predict):
        for dtype in (np.float64, np.float32):
            with np.errstate(over="ignore"), pytest.raises(ValueError, match="image 2 holds NaN or infinity"):
                run(images.astype(dtype))


@pytest.mark.parametrize("output", ["boxes", "scores"])
def test_nan_in_the_outputs_is_a_warning(output, tmp_path):
    changed = {output: np.full((1, 4) if output == "boxes" else 1, np.nan)}
    model = detector(tmp_path, [[0, 0, 1, 1]], changed)
    for run in (model.raw, model.predict):
        with pytest.warns(UserWarning, match=f"gives NaN in its output '{output}' for image 0: "):
            run(np.ones((2, 64, 64, 3), np.float32))


def test_results_draw_on_every_mode():
    found = Detections(np.array([[1, 1, 5, 5]], np.float32), np.array([0]), np.array([0.5]), None, "xywh")
    for mode in MODES:
        drawn = np.asarray(found.draw(in_mode(mode, 8, 16), zoom=1))
        assert drawn[-1, -1].min() > 200, mode
