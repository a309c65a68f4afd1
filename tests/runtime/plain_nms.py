"""Suppression as version 0.1.0 wrote it: over all candidates, one after the other. What faster code must equal."""

from __future__ import annotations

import numpy as np

from resnet_backbones.runtime.boxes import from_yxyx
from resnet_backbones.runtime.decoders.decoder import sigmoid
from resnet_backbones.runtime.results import Detections


def suppress(boxes, scores, *, iou_threshold, score_threshold, max_detections):
    order = _best_first(scores, score_threshold)
    visible = (boxes > 0).any(axis=-1)
    kept = []
    while len(order) and len(kept) < max_detections:
        best, order = order[0], order[1:]
        if visible[best]:
            kept.append(int(best))
        order = order[_iou(boxes[best], boxes[order], np.float32(1e-8)) < np.float32(iou_threshold)]
    return np.array(kept, np.int64)


def suppress_per_class(boxes, scores, *, iou_threshold, score_threshold, max_detections, max_detections_per_class):
    found = []
    for number in range(scores.shape[1]):
        order, kept = _best_first(scores[:, number], score_threshold), 0
        while len(order) and kept < max_detections_per_class:
            best, order = order[0], order[1:]
            found.append((float(scores[best, number]), int(best), number))
            kept += 1
            order = order[_iou(boxes[best], boxes[order], np.float32(0)) <= np.float32(iou_threshold)]
    found = sorted(found, key=lambda item: -item[0])[:max_detections]
    return np.array([box for _, box, _ in found], np.int64), np.array([cls for _, _, cls in found], np.int64)


def decode(decoder, outputs, image_size, request):
    """What ``DetectorDecoder.__call__`` gave."""
    rules = decoder.suppression
    predicted, scores = outputs[decoder.box_output], outputs[decoder.score_output]
    boxes = decoder.boxes(predicted, np.arange(len(predicted)))
    scores = sigmoid(scores) if rules.from_logits else scores
    limits = {
        "score_threshold": rules.confidence if request.confidence is None else request.confidence,
        "iou_threshold": rules.iou if request.iou is None else request.iou,
        "max_detections": rules.most,
    }
    places = from_yxyx(boxes, rules.space, *rules.input_size)
    if rules.kind == "MultiClassNonMaxSuppression":
        kept, classes = suppress_per_class(places, scores, max_detections_per_class=rules.most_per_class, **limits)
    else:
        kept = suppress(places, scores.max(axis=-1), **limits)
        classes = scores[kept].argmax(axis=-1)
    found = decoder.place(image_size, None).to_image(boxes[kept])
    found = from_yxyx(found, decoder.box_format, *image_size)
    return Detections(found, classes, scores[kept, classes], None, decoder.box_format)


def _best_first(scores, threshold):
    order = np.argsort(-scores, kind="stable")
    return order[scores[order] > np.float32(threshold)]


def _iou(box, others, epsilon):
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
        shared = np.maximum(high - low, 0).prod(axis=-1)
        areas = (others[:, 2:] - others[:, :2]).prod(axis=-1)
        union = (box[2:] - box[:2]).prod() + areas - shared + epsilon
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
