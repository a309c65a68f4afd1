"""Exports that several tests look at, made once. Batch norms are randomised: zeros and ones would hide bugs."""

from __future__ import annotations

import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import even_images, randomise


@pytest.fixture(scope="session")
def images():
    return even_images(0, 255, 8, 64, 64, 3)


@pytest.fixture(scope="session")
def classifier():
    """A quantized ResNet-50 classifier."""
    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone("resnet50", input_shape=(64, 64, 3))
    randomise(backbone)
    return rb.adapters.keras_cv.image_classifier(backbone, num_classes=7)


@pytest.fixture(scope="session")
def classifier_report(classifier, tmp_path_factory):
    images = even_images(-1, 1, 8, 64, 64, 3, seed=1)
    rb.quantize_post_training(classifier, calibration_data=images)
    return rb.export_model(classifier, tmp_path_factory.mktemp("export") / "classifier.tflite", parity_data=images)


@pytest.fixture(scope="session")
def detector():
    """A quantized ResNet-18 RetinaNet with rescaling built in."""
    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone("resnet18", input_shape=(64, 64, 3), preprocessing=rb.Preprocessing(1 / 127.5, -1.0))
    randomise(backbone)
    return rb.adapters.keras_cv.retinanet(backbone, num_classes=4, bounding_box_format="xywh")


@pytest.fixture(scope="session")
def detector_report(detector, images, tmp_path_factory):
    rb.quantize_post_training(detector, calibration_data=images)
    path = tmp_path_factory.mktemp("export") / "detector.tflite"
    return rb.export_model(detector, path, parity_data=images, class_names=["a", "b", "c", "d"])
