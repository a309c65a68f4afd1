"""The whole files that the fuzzer damages: ``python -m tests.runtime.fuzz_bases FOLDER`` writes them.

In a process of its own: it needs TensorFlow, and the process that runs the cases must not have it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from resnet_backbones.runtime import append_metadata
from tests.runtime import onnx_models

NAMES = list("abcde")


def described(task, shape, outputs, layout="NHWC"):
    """Metadata of a small model."""
    return {
        "task": task,
        "input": {"shape": shape, "layout": layout, "scale": 1.0, "offset": [0.0, 0.1, 0.2]},
        "outputs": [{"name": name, "parts": [name], "axis": 1} for name in outputs],
        "class_names": NAMES,
    }


def classifier_task():
    return {"name": "image_classifier", "num_classes": 5, "activation": "linear"}


def yolo_task(**nms):
    suppression = {"kind": "NonMaxSuppression", "from_logits": False, "iou_threshold": 0.7, "max_detections": 100}
    return {
        "name": "yolo_v8_detector",
        "num_classes": 5,
        "bounding_box_format": "xywh",
        "nms": {**suppression, "confidence_threshold": 0.2, "bounding_box_format": "xywh", **nms},
    }


def onnx_files() -> dict[str, bytes]:
    """ONNX files of each task, with metadata."""
    random = np.random.default_rng(0)
    heads = {"boxes": random.normal(0, 2, (84, 64)), "classes": random.uniform(0, 1, (84, 5))}
    yolo = described(yolo_task(), [1, 64, 64, 3], list(heads))
    pixels = {"output": random.uniform(0, 1, (16, 16, 5))}
    segmenter = described({"name": "segmentation", "num_classes": 5}, [1, 64, 64, 3], list(pixels))
    network = described(classifier_task(), [1, 32, 32, 3], ["predictions"], "NCHW")
    open_batch = described(classifier_task(), [None, 8, 8, 3], ["predictions"])
    return {
        "float.onnx": append_metadata(onnx_models.convolution(quantized=False), network, "onnx"),
        "int8.onnx": append_metadata(onnx_models.convolution(quantized=True), network, "onnx"),
        "batch.onnx": append_metadata(onnx_models.classifier(batch="n"), open_batch, "onnx"),
        "yolo.onnx": append_metadata(onnx_models.answers(heads), yolo, "onnx"),
        "segmenter.onnx": append_metadata(onnx_models.answers(pixels), segmenter, "onnx"),
    }


def tflite_files() -> dict[str, bytes]:
    """LiteRT files, float and int8: a detector, and a network of the usual operators. Needs TensorFlow."""
    import tensorflow as tf

    from tests.runtime.tiny_models import SIZE, TinyDetector, convert, detector_metadata

    images = np.random.default_rng(1).uniform(0, 1, (4, *SIZE, 3)).astype("float32")
    module = TinyDetector()
    files = {
        "detector.tflite": append_metadata(convert(module.serve, module), detector_metadata()),
        "detector_int8.tflite": append_metadata(
            convert(module.serve, module, calibrate_on=images), detector_metadata()
        ),
    }

    @tf.function(input_signature=[tf.TensorSpec([1, 32, 32, 3], tf.float32, name="images")])
    def serve(images):
        random = np.random.default_rng(2)

        def kernel(*shape):
            return tf.constant(random.normal(0, 0.3, shape), tf.float32)

        x = y = tf.nn.relu(tf.nn.conv2d(images, kernel(3, 3, 3, 8), 2, "SAME") + kernel(8))
        x = tf.nn.depthwise_conv2d(x, kernel(3, 3, 8, 1), [1, 1, 1, 1], "SAME") + kernel(8)
        x = tf.nn.relu6(tf.nn.conv2d(x, kernel(1, 1, 8, 8), 1, "SAME") + y)
        x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 2, 2, "VALID")
        x = tf.concat([x, x * 0.5], -1)
        x = tf.reduce_mean(tf.image.resize(x, (18, 18), "nearest"), [1, 2])
        return {"predictions": tf.nn.softmax(x @ kernel(16, 5) + kernel(5))}

    images = np.random.default_rng(3).uniform(0, 1, (4, 32, 32, 3)).astype("float32")
    network = described({**classifier_task(), "activation": "softmax"}, [1, 32, 32, 3], ["predictions"])
    files["network.tflite"] = append_metadata(convert(serve, tf.Module()), network)
    files["network_int8.tflite"] = append_metadata(convert(serve, tf.Module(), calibrate_on=images), network)
    return files


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]), {**tflite_files(), **onnx_files()})
