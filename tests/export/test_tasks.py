"""Every KerasCV task the adapters build comes out in int8 and computes what Keras does."""

from __future__ import annotations

import pytest

import resnet_backbones as rb


@pytest.mark.parametrize("task", ["yolo_v8_detector", "deeplab_v3_plus", "segformer"])
def test_a_task_is_quantized_whole_and_exported(task, images, tmp_path):
    backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, 3), preprocessing="minus_one_to_one")
    arguments = {"bounding_box_format": "xywh"} if task == "yolo_v8_detector" else {}
    model = getattr(rb.adapters.keras_cv, task)(backbone, num_classes=3, **arguments)
    rb.quantize_post_training(model, calibration_data=images)
    report = rb.export_model(model, tmp_path / "task.tflite", parity_data=images)
    assert {dtype for _, dtype in report.operators} == {"int8"}
    assert report.int8_mac_share == 1.0
    for parity in report.parity:
        assert parity.cosine > 0.999
        # A YOLOV8's distributions have a scale a level, some ten times finer than the one they shared with the scores.
        assert parity.within_two_steps > (0.95 if parity.name == "boxes" else 0.98)
