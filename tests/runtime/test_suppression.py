"""Suppression looks at the best candidates first: the same boxes as before, in bounded time, of any engine."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from resnet_backbones import runtime
from resnet_backbones.runtime.decoders import Request, YOLOV8Decoder, nms
from resnet_backbones.runtime.outputs import Output, Rows
from tests.runtime import digit_scenes, onnx_models, plain_nms

THRESHOLDS = [0.0, 0.3, 0.5, 1.0]


def random_boxes(random, count, spread):
    """Boxes around the image's top left corner: some outside, some empty or inside out, some twice."""
    corner, size = random.uniform(-spread, spread, (count, 2)), random.uniform(-2, 30, (count, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    boxes[: count // 10] = boxes[count // 2 : count // 2 + count // 10]
    return boxes


def random_scores(random, count, ties):
    scores = random.uniform(0, 1, count)
    return (np.round(scores * 8) / 8 if ties else scores).astype(np.float32)


CASES = list(itertools.product(THRESHOLDS, (1, 7, 100, 2000), (True, False), (1, 40, 900), (10, 60, 400)))


def test_boxes_are_those_of_plain_suppression():
    """Thresholds x limits x ties x counts x spreads, with a threshold of scores from none to nearly all."""
    random, found = np.random.default_rng(0), 0
    for number, (iou, most, ties, count, spread) in enumerate(CASES):
        boxes, scores = random_boxes(random, count, spread), random_scores(random, count, ties)
        limits = {"iou_threshold": iou, "score_threshold": (0.0, 0.5, 0.95)[number % 3], "max_detections": most}
        ours, theirs = (module.suppress(boxes, scores, **limits) for module in (nms, plain_nms))
        np.testing.assert_array_equal(ours, theirs, str(CASES[number]))
        found += len(ours)
    assert len(CASES) == 288
    assert found > 5000


def test_boxes_of_each_class_are_those_of_plain_suppression():
    random, found = np.random.default_rng(1), 0
    for number, (iou, most, ties, count, spread) in enumerate(CASES):
        boxes = random_boxes(random, count, spread)
        scores = random_scores(random, (count, 5), ties)
        limits = {"iou_threshold": iou, "score_threshold": (0.0, 0.5, 0.95)[number % 3], "max_detections": most}
        limits["max_detections_per_class"] = (1, 3, 100)[number % 3]
        ours, theirs = (module.suppress_per_class(boxes, scores, **limits) for module in (nms, plain_nms))
        np.testing.assert_array_equal(ours, theirs, str(CASES[number]))
        found += len(ours[0])
    assert found > 4000


def test_scenes_of_digits_give_every_box_they_gave():
    """Perfect, fair and wild networks; both decoders; floats, and int8 in parts. 1,000 scenes: docs/benchmarks.md."""
    cases, boxes, different = digit_scenes.compare(6)
    assert (cases, different) == (24, 0)
    assert boxes > 500


@pytest.mark.parametrize("kind", digit_scenes.KINDS)
@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("confidence", [0.0, 0.2, 0.999, 1.0])
def test_many_candidates_of_a_distribution_decoder(kind, logits, confidence):
    """YOLOV8, far more candidates than are looked at first, many of them equal."""
    size = (512, 512)
    rules = {"kind": kind, "from_logits": logits, "iou_threshold": 0.4, "confidence_threshold": 0.3}
    rules |= {"max_detections": 300, "max_detections_per_class": 40}
    one = YOLOV8Decoder({"bounding_box_format": "xyxy", "num_classes": 6, "nms": rules}, size)
    random = np.random.default_rng(3)
    scores = np.round(random.normal(0, 3, (one.count, 6)), 1) if logits else random.beta(1, 3, (one.count, 6))
    outputs = {"boxes": random.normal(0, 4, (one.count, 64)).astype(np.float32), "classes": scores.astype(np.float32)}
    request = Request(confidence=confidence)
    ours, theirs = one(outputs, size, request), plain_nms.decode(one, outputs, size, request)
    assert digit_scenes.same(ours, theirs)
    assert (len(ours) > 0) == (confidence < 0.99 or (logits and confidence < 1))


def test_only_what_may_be_found_is_decoded(monkeypatch):
    one = digit_scenes.decoder()
    outputs = digit_scenes.heads(one, np.array([[20, 20, 60, 70.0]]), np.array([3]), np.random.default_rng(0), 0)
    decoded, boxes = [], one.boxes
    monkeypatch.setattr(one, "boxes", lambda values, rows: decoded.append(len(rows)) or boxes(values, rows))
    assert len(one(outputs, (128, 128), Request())) == 1
    assert sum(decoded) < 60 < len(outputs["box"])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.float16, np.float32])
def test_rows_above_a_floor_are_found_in_every_type(dtype):
    random = np.random.default_rng(0)
    kind = np.dtype(dtype).kind
    parts = [
        Output(random.integers(0, 100, (count, 5)).astype(dtype), *((0.1, 7) if kind != "f" else ()))
        for count in (40, 1, 200)
    ]
    rows = Rows(parts)
    floats = rows.floats()
    assert rows.shape == floats.shape == (241, 5)
    for floor in (-np.inf, -5.0, 3.0, float(np.sort(floats.ravel())[-9]), 1e9, np.inf):
        found, largest = rows.above(floor)
        np.testing.assert_array_equal(largest, floats.max(axis=1)[found])
        assert set(np.flatnonzero(floats.max(axis=1) > floor)) <= set(found)
        np.testing.assert_array_equal(rows.floats(found), floats[found])


def wild(kind, count):
    """Boxes that each stand for themselves, so that none suppresses another."""
    grid = np.stack(np.divmod(np.arange(count), 250), axis=-1).astype(np.float32)
    boxes = np.concatenate([-8 * grid - 6, -8 * grid - 1], axis=1)
    if kind in ("nan", "inf", "half nan"):
        boxes[:, 3 if kind == "half nan" else slice(None)] = np.inf if kind == "inf" else np.nan
    return {"empty": np.zeros_like(boxes), "inside out": -np.abs(boxes)[:, ::-1]}.get(kind, boxes)


@pytest.mark.parametrize("kind", ["nan", "half nan", "inf", "outside", "empty", "inside out"])
@pytest.mark.parametrize("iou", [0.0, 0.5])
def test_fifty_thousand_wild_boxes_take_seconds_and_nothing_is_found(kind, iou):
    boxes, scores = wild(kind, 50_000), np.full(50_000, 0.9, np.float32)
    start = time.process_time()
    kept = nms.suppress(boxes, scores, iou_threshold=iou, score_threshold=0.5, max_detections=100)
    assert time.process_time() - start < 10
    assert len(kept) == 0


@pytest.mark.parametrize("kind", digit_scenes.KINDS)
def test_boxes_that_are_not_finite_are_left_out_with_a_warning(kind):
    one = digit_scenes.decoder(kind)
    outputs = digit_scenes.heads(one, np.array([[20, 20, 60, 70.0]]), np.array([3]), np.random.default_rng(0), 0)
    outputs["box"][::2] = np.nan
    outputs["box"][1::4, 2] = 1e5  # exp of it is infinite
    with pytest.warns(UserWarning, match="boxes that score above 0.5 have sides that are NaN or infinite"):
        found = one(outputs, (128, 128), Request())
    assert np.isfinite(found.boxes).all()


def network(tmp_path, suffix, layout="NHWC"):
    """A classifier with a scale per channel."""
    path = tmp_path / f"m{suffix}"
    about = {"shape": [1, 8, 8, 3], "scale": [0.1, 0.2, 0.3], "offset": [-1.0, 0.0, 2.0], "layout": layout}
    metadata = {"task": {"name": "image_classifier"}, "input": about, "outputs": [], "class_names": None}
    path.write_bytes(runtime.append_metadata(onnx_models.classifier(layout=layout), metadata, "onnx"))
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_bytes_are_fed_as_the_same_numbers_are(tmp_path, backend, layout):
    """Alone, and in a batch with images of other types and sizes."""
    model = runtime.load(network(tmp_path, ".onnx", layout), backend)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    floats = model.raw(image.astype(np.float32))["predictions"]
    np.testing.assert_array_equal(model.raw(image)["predictions"], floats)
    mixed = [image, image.astype(np.float32), np.repeat(image, 2, axis=0), image]
    found = model.raw(mixed)["predictions"]
    np.testing.assert_array_equal(found[[0, 1, 3]], floats.repeat(3, axis=0))


@pytest.mark.parametrize("form", ["flatbuffer", "int8_flatbuffer"])
@pytest.mark.parametrize("backend", ["litert", "openvino"])
def test_bytes_are_fed_to_tflite_as_the_same_numbers_are(detector, tmp_path, form, backend):
    from tests.runtime.tiny_models import SIZE, detector_metadata

    scaling = {"shape": [1, *SIZE, 3], "scale": [1 / 255, 0.004, 0.003], "offset": [0.0, 0.1, -0.2]}
    (tmp_path / "d.tflite").write_bytes(
        runtime.append_metadata(getattr(detector, form), detector_metadata(input=scaling))
    )
    model = runtime.load(tmp_path / "d.tflite", backend)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    ours, theirs = model.predict(image)[0], model.predict(image.astype(np.float32))[0]
    assert digit_scenes.same(ours, theirs)
    for resize in ("stretch", "letterbox"):
        assert digit_scenes.same(model.predict(image, resize=resize)[0], theirs)


@pytest.mark.parametrize("name", ["litert", "onnxruntime", "openvino"])
def test_a_timer_and_predictions_take_turns(detector, tmp_path, name):
    """Threads that time and threads that predict: each prediction is of its own image."""
    from tests.runtime.tiny_models import detector_metadata

    if name == "onnxruntime":
        model = runtime.load(network(tmp_path, ".onnx"), name, num_threads=1)
    else:
        (tmp_path / "d.tflite").write_bytes(runtime.append_metadata(detector.int8_flatbuffer, detector_metadata()))
        model = runtime.load(tmp_path / "d.tflite", name, num_threads=1)
    images = np.random.default_rng(0).uniform(0, 1, (4, *model.input_shape[1:])).astype(np.float32)
    expected = [model.raw(image) for image in images]
    run, stop, wrong = model.timer(), threading.Event(), []

    def clock():
        while not stop.is_set():
            run()

    def predict(index):
        for _ in range(60):
            found = model.raw(images[index])
            if any(not np.array_equal(found[key], value) for key, value in expected[index].items()):
                wrong.append(index)

    clocks = [threading.Thread(target=clock) for _ in range(2)]
    workers = [threading.Thread(target=predict, args=(index,)) for index in range(len(images))]
    for thread in [*clocks, *workers]:
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    for thread in clocks:
        thread.join()
    assert not wrong
