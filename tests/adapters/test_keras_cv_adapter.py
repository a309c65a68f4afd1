"""Every KerasCV task on our backbones: its class, one training step, saving and loading, metadata."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import keras_cv
import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.adapters import keras_cv as adapter
from resnet_backbones.keras_compat import keras
from resnet_backbones.tasks import task_of
from tests.support.processes import run_python

CLASSES = 3
# Tracing a training step takes up to twenty seconds, an eager step two: these are traced, as users do.
TRACED = ("retinanet", "classifier")
DETECTION = {"num_classes": CLASSES, "bounding_box_format": "xywh"}
RETINANET_LOSSES = {"box_loss": "smoothl1", "classification_loss": "focal"}
YOLO_LOSSES = {"box_loss": "ciou", "classification_loss": "binary_crossentropy"}
PER_PIXEL = {"loss": "sparse_categorical_crossentropy"}

# name -> (builder, its arguments, KerasCV's class, losses, the descriptor's name)
TASKS = {
    "retinanet": (adapter.retinanet, DETECTION, "RetinaNet", RETINANET_LOSSES, "retinanet"),
    "yolo_v8": (
        adapter.yolo_v8_detector,
        {**DETECTION, "fpn_depth": 1},
        "YOLOV8Detector",
        YOLO_LOSSES,
        "yolo_v8_detector",
    ),
    "classifier": (adapter.image_classifier, {"num_classes": 3}, "ImageClassifier", PER_PIXEL, "image_classifier"),
    "deeplab": (adapter.deeplab_v3_plus, {"num_classes": CLASSES}, "DeepLabV3Plus", PER_PIXEL, "segmentation"),
    "segformer": (adapter.segformer, {"num_classes": CLASSES}, "SegFormer", PER_PIXEL, "segmentation"),
}


def labels_for(name, images, box_labels):
    if name in ("retinanet", "yolo_v8"):
        return box_labels
    shape = (len(images),) if name == "classifier" else (*images.shape[:3], 1)
    return np.random.default_rng(1).integers(0, CLASSES, shape)


def outputs_of(model, images):
    outputs = model(images, training=False)
    outputs = outputs if isinstance(outputs, dict) else {"output": outputs}
    return {name: np.asarray(value) for name, value in outputs.items()}


@pytest.mark.parametrize("name", TASKS)
def test_is_keras_cv_s_own_class_and_trains(name, backbone, images, box_labels):
    build, arguments, class_name, losses, task = TASKS[name]
    model = build(backbone, **arguments)
    assert isinstance(model, getattr(keras_cv.models, class_name))
    assert type(model).__name__ == class_name
    assert task_of(model).name == task
    before = model.get_weights()
    model.compile(optimizer=keras.optimizers.SGD(1e-3), run_eagerly=name not in TRACED, jit_compile=False, **losses)
    history = model.fit(images, labels_for(name, images, box_labels), verbose=0)
    assert np.isfinite(history.history["loss"][0])
    assert any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


# Runs where nothing else was imported: loads, compares with the saved outputs, goes on training.
FRESH_PROCESS = """
import pickle, sys
import numpy as np
import resnet_backbones.backbones.model
import resnet_backbones.adapters.keras_cv
from resnet_backbones.keras_compat import keras

with open(sys.argv[1], "rb") as file:
    images, saved = pickle.load(file)
for path, losses, labels, expected in saved:
    model = keras.models.load_model(path, compile=False)
    outputs = model(images, training=False)
    outputs = outputs if isinstance(outputs, dict) else {"output": outputs}
    for name, value in expected.items():
        np.testing.assert_allclose(np.asarray(outputs[name]), value, rtol=1e-5, atol=1e-5)
    model.compile(optimizer=keras.optimizers.SGD(1e-3), run_eagerly=True, **losses)
    assert np.isfinite(model.fit(images, labels, verbose=0).history["loss"][0])
    print("class", type(model).__name__)
"""


def test_every_task_loads_in_a_fresh_process_and_goes_on_training(backbone, images, box_labels, tmp_path):
    saved, random = [], np.random.default_rng(7)
    for name, (build, arguments, _, losses, _) in TASKS.items():
        model = build(backbone, **arguments)
        # Not the first weights: every one must come from the file. Statistics stay positive.
        model.set_weights([w * random.uniform(0.8, 1.2, w.shape) for w in model.get_weights()])
        path = str(tmp_path / f"{name}.keras")
        model.save(path)
        saved.append((path, losses, labels_for(name, images, box_labels), outputs_of(model, images)))
    with (tmp_path / "saved.pickle").open("wb") as file:
        pickle.dump((images, saved), file)
    printed = run_python(FRESH_PROCESS, tmp_path / "saved.pickle").splitlines()
    classes = [line.split()[1] for line in printed if line.startswith("class ")]
    assert classes == [class_name for _, _, class_name, *_ in TASKS.values()]


@pytest.mark.parametrize("name", TASKS)
def test_metadata_is_plain_json(name, backbone):
    build, arguments, *_ = TASKS[name]
    model = build(backbone, **arguments)
    metadata = task_of(model).metadata(model)
    assert metadata["num_classes"] == CLASSES
    assert json.loads(json.dumps(metadata)) == metadata


def test_a_classifier_takes_a_backbone_of_open_size(images):
    build, arguments, *_ = TASKS["classifier"]
    model = build(rb.create_backbone("resnet10t", input_shape=(None, None, 3)), **arguments)
    small = outputs_of(model, images[:, :32, :32])
    for output, value in outputs_of(model, images).items():
        assert np.isfinite(value).all()
        assert value.size >= small[output].size


@pytest.mark.parametrize("name", TASKS)
def test_takes_keras_cv_backbones_too(name, images):
    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 72, 80, 88],
        stackwise_blocks=[1, 1, 1, 1],
        stackwise_strides=[1, 2, 2, 2],
        include_rescaling=False,
        block_type="basic_block",
        input_shape=images.shape[1:],
    )
    build, arguments, *_ = TASKS[name]
    assert all(np.isfinite(value).all() for value in outputs_of(build(backbone, **arguments), images).values())


@pytest.mark.parametrize(("activation", "written"), [("softmax", "softmax"), (None, "linear"), ("sigmoid", "sigmoid")])
def test_classifier_metadata_names_the_activation(backbone, activation, written):
    model = adapter.image_classifier(backbone, CLASSES, activation=activation)
    assert task_of(model).metadata(model)["activation"] == written


def test_segformer_shows_the_levels_p2_to_p5_on_the_same_layers(backbone):
    model = adapter.segformer(backbone, CLASSES)
    assert list(model.backbone.pyramid_level_inputs) == ["P2", "P3", "P4", "P5"]
    assert model.backbone.embedding_dims == [
        backbone.feature_info[level].channels for level in ("P2", "P3", "P4", "P5")
    ]
    name = backbone.feature_info["P5"].layer_name
    assert model.backbone.get_layer(name) is backbone.get_layer(name)
    assert model.count_params() < backbone.count_params() + 2_000_000  # the backbone is counted once


def test_faster_rcnn_says_that_it_is_broken_upstream(backbone):
    with pytest.raises(NotImplementedError, match=r"broken upstream.*retinanet"):
        adapter.faster_rcnn(backbone, num_classes=CLASSES, bounding_box_format="xywh")


def test_without_keras_cv_the_error_says_what_to_install():
    code = "import sys; sys.modules['keras_cv'] = None; import resnet_backbones.adapters.keras_cv"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "ImportError: The KerasCV adapter needs KerasCV" in done.stderr
    assert 'pip install "resnet-backbones[keras-cv]"' in done.stderr


def test_adapters_are_loaded_when_first_used():
    assert rb.adapters.keras_cv is adapter
    with pytest.raises(AttributeError, match="it has"):
        rb.adapters.torchvision  # noqa: B018
