"""One decoder a task: the network's outputs become results. A task is picked by its name in the metadata."""

from __future__ import annotations

from resnet_backbones.runtime.decoders.decoder import Decoder, ImageClassifierDecoder, Request, SegmentationDecoder
from resnet_backbones.runtime.decoders.detectors import RetinaNetDecoder, SuppressedDecoder, YOLOV8Decoder

__all__ = [
    "DECODERS",
    "Decoder",
    "ImageClassifierDecoder",
    "Request",
    "RetinaNetDecoder",
    "SegmentationDecoder",
    "SuppressedDecoder",
    "YOLOV8Decoder",
]

DECODERS: dict[str, type[Decoder]] = {
    "detections": SuppressedDecoder,
    "image_classifier": ImageClassifierDecoder,
    "retinanet": RetinaNetDecoder,
    "segmentation": SegmentationDecoder,
    "yolo_v8_detector": YOLOV8Decoder,
}
