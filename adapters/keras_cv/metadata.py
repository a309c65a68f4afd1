"""What the runtime must know to read the outputs of KerasCV's tasks, as plain JSON values."""

from __future__ import annotations

from typing import Any

from resnet_backbones.adapters.keras_cv.retinanet_parts import BOX_VARIANCE, anchor_settings
from resnet_backbones.keras_compat import keras

_NMS_KEYS = (
    "bounding_box_format",
    "from_logits",
    "iou_threshold",
    "confidence_threshold",
    "max_detections",
    "max_detections_per_class",
)


def retinanet_metadata(model: Any) -> dict[str, Any]:
    """Anchors, box variance, box format and suppression of a RetinaNet."""
    return {
        "num_classes": int(model.num_classes),
        "anchors": anchor_settings(model.anchor_generator),
        "box_variance": list(BOX_VARIANCE),
        "bounding_box_format": model.bounding_box_format,
        "nms": _suppression(model.prediction_decoder),
    }


def yolo_v8_metadata(model: Any) -> dict[str, Any]:
    """Box format and suppression of a YOLOV8 detector."""
    return {
        "num_classes": int(model.num_classes),
        "bounding_box_format": model.bounding_box_format,
        "nms": _suppression(model.prediction_decoder),
    }


def classifier_metadata(model: Any) -> dict[str, Any]:
    """Number of classes and last activation of a classifier."""
    activation = keras.activations.get(model.activation)
    name = getattr(activation, "__name__", type(activation).__name__)
    return {"num_classes": int(model.num_classes), "activation": name}


def segmenter_metadata(model: Any) -> dict[str, Any]:
    """Number of classes of a segmenter; its output is one probability a class and pixel."""
    return {"num_classes": int(model.num_classes), "activation": "softmax"}


def _suppression(decoder: Any) -> dict[str, Any]:
    settings = {key: getattr(decoder, key) for key in _NMS_KEYS if hasattr(decoder, key)}
    return {"kind": type(decoder).__name__, **settings}
