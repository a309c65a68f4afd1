"""Small models, quantized and exported once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import randomise


@dataclass
class Case:
    """A file, what it was made of, and what it says."""

    model: Any
    path: Any
    report: Any

    @property
    def graph(self):
        return onnx.load(self.path).graph

    @property
    def constants(self):
        return {entry.name: numpy_helper.to_array(entry) for entry in self.graph.initializer}


@pytest.fixture(scope="session")
def pictures():
    """Patches of two photographs, -1 to 1."""
    from sklearn.datasets import load_sample_images

    random, patches = np.random.default_rng(0), []
    for number in range(4):
        picture = load_sample_images().images[number % 2]
        top, left = (int(random.integers(0, size - 192)) for size in picture.shape[:2])
        patches.append(picture[top : top + 192 : 3, left : left + 192 : 3])
    return np.stack(patches).astype("float32") / 127.5 - 1.0


SPEC = rb.ResNetSpec(block="basic", depths=(1, 1, 1, 1), widths=(16, 32, 64, 128), stem_width=16)


def _retinanet():
    keras.utils.set_random_seed(0)
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3))
    randomise(backbone)
    return rb.adapters.keras_cv.retinanet(backbone, num_classes=4, bounding_box_format="xywh", head_depth=1)


@pytest.fixture(scope="session")
def float_detector(pictures, tmp_path_factory):
    model = _retinanet()
    path = tmp_path_factory.mktemp("onnx") / "float.onnx"
    return Case(model, path, rb.export_model(model, path, parity_data=pictures))


@pytest.fixture(scope="session")
def portable_detector(pictures):
    """Quantized for both, the shared heads with it."""
    model = _retinanet()
    rb.quantize_post_training(model, "portable_int8", calibration_data=pictures)
    return model


@pytest.fixture(scope="session")
def for_tensorrt(portable_detector, pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "tensorrt.onnx"
    return Case(portable_detector, path, rb.export_model(portable_detector, path, parity_data=pictures))


@pytest.fixture(scope="session")
def for_runtime(portable_detector, pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "runtime.onnx"
    report = rb.export_model(
        portable_detector, path, target="onnxruntime", layout="NHWC", batch=None, parity_data=pictures
    )
    return Case(portable_detector, path, report)


@pytest.fixture(scope="session")
def edge_backbone(pictures):
    """Hard-swish, squeeze-and-excitation, depthwise convolutions; asymmetric ranges."""
    keras.utils.set_random_seed(0)
    model = rb.create_backbone("mobilenetv3_small_050", input_shape=(64, 64, 3))
    randomise(model)
    rb.quantize_post_training(model, "edge_int8", calibration_data=pictures)
    return model


@pytest.fixture(scope="session")
def edge_file(edge_backbone, pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "edge.onnx"
    return Case(edge_backbone, path, rb.export_model(edge_backbone, path, target="onnxruntime", parity_data=pictures))
