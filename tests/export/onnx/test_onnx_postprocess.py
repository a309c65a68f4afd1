"""Post-processing in an ONNX file, on random heads: it finds the very boxes that KerasCV's own decoders find."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from resnet_backbones.export.contents import Census
from resnet_backbones.export.onnx.postprocess import with_post_processing
from resnet_backbones.export.request import Emitted
from resnet_backbones.runtime.decoders import Request, SuppressedDecoder
from tests.runtime import test_retinanet_decoding as retinanet_heads
from tests.runtime import test_yolo_v8_decoding as yolo_v8_heads

KINDS = ["NonMaxSuppression", "MultiClassNonMaxSuppression"]
OUTPUTS = ["boxes", "classes", "scores", "count"]


def only_post_processing(task, heads, size, batch=2):
    """A file whose network does nothing: it takes the heads side by side and gives each."""
    widths = {name: value.shape[2] for name, value in heads.items()}
    cells, ends = next(iter(heads.values())).shape[1], np.cumsum([0, *widths.values()])
    images = batch or "batch"
    nodes, constants = [], [numpy_helper.from_array(np.array([2]), "axis")]
    for number, name in enumerate(heads):
        nodes.append(helper.make_node("Slice", ["images", f"{number}", f"{number + 1}", "axis"], [name]))
    constants += [numpy_helper.from_array(np.array([end]), f"{number}") for number, end in enumerate(ends)]
    entry = helper.make_tensor_value_info("images", TensorProto.FLOAT, [images, cells, int(ends[-1])])
    exits = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [images, cells, w]) for n, w in widths.items()]
    graph = helper.make_graph(nodes, "heads", [entry], exits, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {"input": {"shape": [batch, *size, 3]}}
    return with_post_processing(Emitted(model.SerializeToString(), Census(), metadata), task)


def run(emitted, heads):
    session = onnxruntime.InferenceSession(emitted.data, providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_outputs()] == OUTPUTS
    found = session.run(None, {"images": np.concatenate(list(heads.values()), axis=2)})
    return dict(zip(OUTPUTS, found, strict=True))


def assert_finds_what_keras_cv_finds(theirs, emitted, heads, size, box_format, most):
    found = run(emitted, heads)
    decode = SuppressedDecoder(emitted.metadata["task"], size)
    pixels = max(size) if box_format.startswith("rel") else 1
    for index, count in enumerate(theirs["num_detections"]):
        outputs = {name: value[index] for name, value in found.items()}
        assert outputs["boxes"].shape == (most, 4)
        assert outputs["count"] == count > 0
        assert not any(outputs[name][count:].any() for name in OUTPUTS[:3])
        ours = decode(outputs, size, Request())
        np.testing.assert_array_equal(ours.classes, theirs["classes"][index][:count])
        np.testing.assert_allclose(ours.scores, theirs["confidence"][index][:count], atol=1e-6)
        np.testing.assert_allclose(ours.boxes * pixels, theirs["boxes"][index][:count] * pixels, atol=1e-3)


def retinanet_task(box_format, kind, **changes):
    nms = {**retinanet_heads.THRESHOLDS, "from_logits": True, "kind": kind, "max_detections_per_class": 100, **changes}
    return {
        "name": "retinanet",
        "num_classes": retinanet_heads.CLASSES,
        "anchors": {**retinanet_heads.ANCHORS, "clip_boxes": True},
        "box_variance": [0.1, 0.1, 0.2, 0.2],
        "bounding_box_format": box_format,
        "nms": nms,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "box_format"), [((96, 96), "xywh"), ((64, 128), "rel_yxyx")], ids=str)
@pytest.mark.parametrize("batch", [2, None])
def test_deltas_to_anchors_as_keras_cv(kind, size, box_format, batch):
    heads = retinanet_heads.random_heads(size)
    theirs = retinanet_heads.decode_with_keras_cv(heads, size, box_format, kind, "yxyx", True)
    emitted = only_post_processing(retinanet_task(box_format, kind), heads, size, batch)
    assert_finds_what_keras_cv_finds(theirs, emitted, heads, size, box_format, 60)


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_outside_the_image_as_keras_cv(kind):
    """In KerasCV's NonMaxSuppression those beyond the top left corner suppress, but are not returned."""
    size = (96, 96)
    heads = retinanet_heads.random_heads(size, spread=0.3)
    heads["box"][..., :2] -= 25.0
    theirs = retinanet_heads.decode_with_keras_cv(heads, size, "yxyx", kind, "yxyx", True)
    emitted = only_post_processing(retinanet_task("yxyx", kind), heads, size)
    assert_finds_what_keras_cv_finds(theirs, emitted, heads, size, "yxyx", 60)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("logits", [False, True])
def test_distributions_over_distances_as_keras_cv(kind, logits):
    size = (64, 160)
    heads = yolo_v8_heads.random_heads(size, logits=logits)
    theirs = yolo_v8_heads.decode_with_keras_cv(heads, size, "xyxy", kind, logits)
    nms = {**yolo_v8_heads.THRESHOLDS, "from_logits": logits, "kind": kind, "max_detections_per_class": 100}
    task = {"name": "yolo_v8_detector", "num_classes": 6, "bounding_box_format": "xyxy", "nms": nms}
    assert_finds_what_keras_cv_finds(theirs, only_post_processing(task, heads, size), heads, size, "xyxy", 80)


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_scores_enough_nothing_is_found(kind):
    size = (96, 96)
    heads = retinanet_heads.random_heads(size)
    emitted = only_post_processing(retinanet_task("xywh", kind), heads, size)
    heads["classification"][1] = -9.0
    found = run(emitted, heads)
    assert found["count"].tolist()[1] == 0 < found["count"][0]
    assert not any(found[name][1].any() for name in OUTPUTS)
    heads["classification"][0] = -9.0
    found = run(emitted, heads)
    assert not any(value.any() for value in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_an_overlap_equal_to_the_threshold_as_keras_cv(kind, monkeypatch):
    """Neighbouring anchors of twice the stride overlap by a third: one decoder drops such boxes, the other does not."""
    monkeypatch.setitem(retinanet_heads.ANCHORS, "sizes", [16.0, 32.0, 64.0, 128.0, 256.0])
    monkeypatch.setitem(retinanet_heads.ANCHORS, "scales", [1.0])
    monkeypatch.setitem(retinanet_heads.ANCHORS, "aspect_ratios", [1.0])
    monkeypatch.setitem(retinanet_heads.THRESHOLDS, "iou_threshold", 1 / 3)
    size = (96, 96)
    heads = retinanet_heads.random_heads(size)
    heads["box"][:] = 0
    theirs = retinanet_heads.decode_with_keras_cv(heads, size, "yxyx", kind, "yxyx", True)
    emitted = only_post_processing(retinanet_task("yxyx", kind), heads, size)
    assert_finds_what_keras_cv_finds(theirs, emitted, heads, size, "yxyx", 60)


def test_an_overlap_of_zero_keeps_one_box_of_keras_cvs_plain_suppression():
    size = (96, 96)
    heads = retinanet_heads.random_heads(size)
    emitted = only_post_processing(retinanet_task("xywh", KINDS[0], iou_threshold=0.0), heads, size)
    assert run(emitted, heads)["count"].tolist() == [1, 1]
