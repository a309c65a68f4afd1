"""Exports that several tests look at, made once. Batch norms are randomised: zeros and ones would hide bugs."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras


def randomise_batch_norms(model, seed=0):
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            layer.gamma.assign(random.uniform(0.5, 1.0, size))
            layer.beta.assign(random.normal(0, 0.2, size))
            layer.moving_mean.assign(random.normal(0, 0.2, size))
            layer.moving_variance.assign(random.uniform(0.8, 1.5, size))


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3)).astype("float32")


@pytest.fixture(scope="session")
def classifier():
    """A quantized ResNet-50 classifier."""
    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone("resnet50", input_shape=(64, 64, 3))
    randomise_batch_norms(backbone)
    return rb.adapters.keras_cv.image_classifier(backbone, num_classes=7)


@pytest.fixture(scope="session")
def classifier_report(classifier, tmp_path_factory):
    images = np.random.default_rng(1).uniform(-1, 1, (8, 64, 64, 3)).astype("float32")
    rb.quantize_post_training(classifier, calibration_data=images)
    return rb.export_model(classifier, tmp_path_factory.mktemp("export") / "classifier.tflite", parity_data=images)


@pytest.fixture(scope="session")
def detector():
    """A quantized ResNet-18 RetinaNet with rescaling built in."""
    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone("resnet18", input_shape=(64, 64, 3), preprocessing=rb.Preprocessing(1 / 127.5, -1.0))
    randomise_batch_norms(backbone)
    return rb.adapters.keras_cv.retinanet(backbone, num_classes=4, bounding_box_format="xywh")


@pytest.fixture(scope="session")
def detector_report(detector, images, tmp_path_factory):
    rb.quantize_post_training(detector, calibration_data=images)
    path = tmp_path_factory.mktemp("export") / "detector.tflite"
    return rb.export_model(detector, path, parity_data=images, class_names=["a", "b", "c", "d"])
