"""Every task the adapters build: quantized with data, trained a step, saved, loaded, exported."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from tests.support.nets import even_images
from tests.support.shrinking import shrunken

BACKBONE = rb.ResNetSpec(block="basic", depths=(1, 1, 1, 1), widths=(8, 16, 24, 32), stem_width=8)
LABELS = {
    "boxes": np.array([[[8, 8, 24, 24]], [[30, 20, 16, 32]]], "float32"),
    "classes": np.array([[1], [2]], "float32"),
}
MASKS = np.random.default_rng(0).integers(0, 3, (2, 64, 64, 1))
BOXES = {"bounding_box_format": "xywh"}


@dataclasses.dataclass(frozen=True)
class Task:
    """How a task is built and trained."""

    arguments: dict
    compiled: dict
    labels: object


TASKS = {
    "retinanet": Task({**BOXES, "head_depth": 1}, {"box_loss": "smoothl1", "classification_loss": "focal"}, LABELS),
    "yolo_v8_detector": Task(
        {**BOXES, "fpn_depth": 1}, {"box_loss": "ciou", "classification_loss": "binary_crossentropy"}, LABELS
    ),
    "image_classifier": Task({}, {"loss": "sparse_categorical_crossentropy"}, np.array([0, 2])),
    "deeplab_v3_plus": Task({}, {"loss": "sparse_categorical_crossentropy"}, MASKS),
    "segformer": Task({"projection_filters": 16}, {"loss": "sparse_categorical_crossentropy"}, MASKS),
}


def pictures(count=4):
    return even_images(0, 255, count, 64, 64, 3)


def build(task, spec=BACKBONE):
    backbone = rb.create_backbone(spec, input_shape=(64, 64, 3), preprocessing="minus_one_to_one")
    return getattr(rb.adapters.keras_cv, task)(backbone, num_classes=3, **TASKS[task].arguments)


def outputs(model):
    found = model(pictures(), training=False)
    return {k: np.asarray(v) for k, v in (found.items() if isinstance(found, dict) else [("output", found)])}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_quantized_trained_saved_and_exported(task, tmp_path, recwarn):
    model = build(task)
    rb.quantize_aware(model, calibration_data=pictures())
    assert not [str(w.message) for w in recwarn if "stay" in str(w.message)], "every layer has a rule"
    keyword = {"jit_compile": False} if IS_KERAS_3 else {}
    model.compile(optimizer=keras.optimizers.SGD(1e-3), **TASKS[task].compiled, **keyword)
    before = [np.array(weight) for weight in model.get_weights()]
    history = model.fit(pictures(2), TASKS[task].labels, batch_size=2, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))

    model.save(tmp_path / "it.keras")
    loaded = rb.load_model(tmp_path / "it.keras")
    for name, value in outputs(model).items():
        np.testing.assert_array_equal(outputs(loaded)[name], value)

    rb.calibrate(model, pictures())
    report = rb.export_model(model, tmp_path / "it.tflite", parity_data=pictures())
    assert {dtype for _, dtype in report.operators} == {"int8"}, report.float_operators
    assert report.int8_mac_share == 1.0
    assert not report.left_in_float
    for parity in report.parity:
        assert parity.within_two_steps >= 0.98
        assert parity.cosine > 0.999


def test_the_distributions_of_a_yolo_are_decoded_in_float_outside_of_the_file(tmp_path):
    """The file ends with the distributions; what decodes them, int8 would destroy."""
    model = build("yolo_v8_detector")
    rb.quantize_post_training(model, calibration_data=pictures())
    report = rb.export_model(model, tmp_path / "it.tflite")
    loaded = rb.runtime.load(report.path)
    assert loaded.raw(pictures(1))["boxes"].shape == outputs(model)["boxes"][:1].shape == (1, 84, 64)
    assert not {kind for kind, _ in report.operators} & {"EXP", "DIV", "SOFTMAX", "GATHER"}


@pytest.mark.parametrize("name", ["mobilenetv2_100", "regnety_002", "seresnet18"])
def test_a_detector_on_other_families(name, tmp_path, recwarn):
    model = build("retinanet", shrunken(rb.backbone_info(name).spec))
    rb.quantize_post_training(model, calibration_data=pictures())
    report = rb.export_model(model, tmp_path / "it.tflite", parity_data=pictures())
    assert {dtype for _, dtype in report.operators} == {"int8"}, report.float_operators
    assert not [w for w in recwarn if "stay" in str(w.message)]
    for parity in report.parity:
        assert parity.cosine > 0.999
