"""Networks small enough to convert in a moment, and their metadata."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

SIZE = (64, 96)
CLASSES = 3
ANCHORS = {
    "sizes": [16.0, 32.0],
    "scales": [1.0],
    "aspect_ratios": [0.5, 1.0, 2.0],
    "strides": [16, 32],
    "clip_boxes": False,
}


def convert(function, module, *, calibrate_on=None) -> bytes:
    """A function to ``.tflite`` bytes; int8, inputs and outputs too, where images to calibrate on are given."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    if calibrate_on is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in calibrate_on)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


class TinyDetector(tf.Module):
    """Average colour of each cell, mixed: a RetinaNet's outputs without its cost, one output a level."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(3)
        per_cell = len(ANCHORS["scales"]) * len(ANCHORS["aspect_ratios"])
        self.per_cell = per_cell
        self.box = tf.Variable(random.normal(0, 2, (1, 1, 3, per_cell * 4)).astype("float32"))
        self.classification = tf.Variable(random.normal(0, 4, (1, 1, 3, per_cell * CLASSES)).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([1, *SIZE, 3], tf.float32, name="images")])
    def serve(self, images):
        outputs = {}
        for level, stride in enumerate(ANCHORS["strides"]):
            cells = tf.nn.avg_pool2d(images, stride, stride, "VALID")
            outputs[f"box_{level}"] = tf.reshape(tf.nn.conv2d(cells, self.box, 1, "SAME"), [1, -1, 4])
            scores = tf.nn.conv2d(cells, self.classification, 1, "SAME")
            outputs[f"classification_{level}"] = tf.reshape(scores, [1, -1, CLASSES])
        return outputs

    def heads(self, images) -> dict[str, np.ndarray]:
        """What ``raw`` must return: levels joined, batch first."""
        rows = [self.serve(image[None]) for image in tf.constant(images, tf.float32)]
        return {
            name: np.concatenate([tf.concat([row[f"{name}_0"], row[f"{name}_1"]], 1).numpy() for row in rows])
            for name in ("box", "classification")
        }


def detector_metadata(**changes):
    task = {
        "name": "retinanet",
        "num_classes": CLASSES,
        "anchors": {**ANCHORS, "bounding_box_format": "xywh"},
        "box_variance": [0.1, 0.1, 0.2, 0.2],
        "bounding_box_format": "xywh",
        "nms": {
            "kind": "NonMaxSuppression",
            "from_logits": True,
            "iou_threshold": 0.5,
            "confidence_threshold": 0.5,
            "max_detections": 100,
            "bounding_box_format": "xywh",
        },
    }
    outputs = [{"name": name, "parts": [f"{name}_0", f"{name}_1"], "axis": 1} for name in ("box", "classification")]
    metadata = {
        "task": task,
        "input": {"shape": [1, *SIZE, 3], "scale": 1.0, "offset": 0.0},
        "outputs": outputs,
        "class_names": ["circle", "square", "star"],
    }
    return {**metadata, **changes}
