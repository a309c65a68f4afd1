"""Small ``.tflite`` files, made once: TensorFlow is the tests', the runtime never imports it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones.runtime import append_metadata
from tests.runtime.tiny_models import SIZE, TinyDetector, convert, detector_metadata


@pytest.fixture(scope="session")
def images():
    """Four smooth random images of the network's own size, 0 to 1."""
    coarse = np.random.default_rng(1).uniform(0, 1, (4, 4, 6, 3)).astype("float32")
    return tf.image.resize(coarse, SIZE).numpy()


@pytest.fixture(scope="session")
def detector(images):
    module = TinyDetector()
    return SimpleNamespace(
        module=module,
        flatbuffer=convert(module.serve, module),
        int8_flatbuffer=convert(module.serve, module, calibrate_on=images),
    )


@pytest.fixture
def detector_file(detector, tmp_path):
    path = tmp_path / "detector.tflite"
    path.write_bytes(append_metadata(detector.flatbuffer, detector_metadata()))
    return path


@pytest.fixture(scope="session")
def classifier():
    """A file of batch size 2: the mean of an image's colours, mixed to five logits."""
    module = tf.Module()
    module.kernel = tf.Variable(np.random.default_rng(2).normal(0, 3, (3, 5)).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([2, 8, 8, 3], tf.float32, name="images")])
    def serve(images):
        return {"predictions": tf.reduce_mean(images, [1, 2]) @ module.kernel}

    return SimpleNamespace(kernel=module.kernel.numpy(), flatbuffer=convert(serve, module))
