"""Every KerasCV task the adapters build comes out in int8 and computes what Keras does."""

from __future__ import annotations

import pytest

import resnet_backbones as rb
from tests.support.nets import SPEC, randomise


@pytest.mark.parametrize("task", ["yolo_v8_detector", "deeplab_v3_plus", "segformer"])
def test_a_task_is_quantized_whole_and_exported(task, images, tmp_path):
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3), preprocessing="minus_one_to_one")
    arguments = {"bounding_box_format": "xywh"} if task == "yolo_v8_detector" else {}
    model = getattr(rb.adapters.keras_cv, task)(backbone, num_classes=3, **arguments)
    randomise(model)  # heads' too: with untrained ones signals vanish, and steps with them
    rb.quantize_post_training(model, calibration_data=images)
    report = rb.export_model(model, tmp_path / "task.tflite", parity_data=images)
    assert {dtype for _, dtype in report.operators} == {"int8"}
    assert report.int8_mac_share == 1.0
    assert report.passed, report.failures
    judged_by_class = [entry.same_class is not None for entry in report.parity]
    assert all(judged_by_class) if task != "yolo_v8_detector" else not any(judged_by_class)
    if task == "yolo_v8_detector":  # boxes and classes of each level, each with its own scale
        parts = [part for output in rb.runtime.read_metadata(report.path)["outputs"] for part in output["parts"]]
        assert len(parts) == 6
