"""What a RetinaNet of any quality gives for scenes of handwritten digits: outputs to decode, without a network.

``python -m tests.runtime.digit_scenes --count 1000`` decodes them all and compares each box with version 0.1.0's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from resnet_backbones.runtime.decoders import Request, RetinaNetDecoder
from resnet_backbones.runtime.outputs import Output, Rows
from tests.runtime import plain_nms

SIZE, CLASSES = 128, 10
KINDS = ("NonMaxSuppression", "MultiClassNonMaxSuppression")
ANCHORS = {
    "sizes": [16.0, 32.0, 64.0],
    "scales": [1.0, 1.26, 1.5874],
    "aspect_ratios": [0.5, 1.0, 2.0],
    "strides": [8, 16, 32],
    "clip_boxes": False,
}


def decoder(kind=KINDS[0], **changes):
    nms = {"kind": kind, "from_logits": True, "iou_threshold": 0.5, "confidence_threshold": 0.5, "max_detections": 100}
    nms |= {"max_detections_per_class": 100, **changes}
    task = {
        "bounding_box_format": "xyxy",
        "num_classes": CLASSES,
        "anchors": ANCHORS,
        "box_variance": [0.1, 0.1, 0.2, 0.2],
    }
    return RetinaNetDecoder({**task, "nms": nms}, (SIZE, SIZE))


def heads(decoder, boxes, classes, random, noise):
    """Logits that are high where an anchor overlaps a digit, and deltas from it to the digit, both with noise.

    Args:
        decoder: a RetinaNet's.
        boxes: (n, 4) xyxy of the scene's digits, pixels.
        classes: (n,).
        random: numpy's generator.
        noise: 0 for a perfect network; 3 finds thousands of boxes.
    """
    y, x, height, width = decoder.anchors.T
    corners = np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], axis=-1)
    overlap = plain_iou(corners, boxes[:, [1, 0, 3, 2]])
    nearest, best = overlap.argmax(axis=1), overlap.max(axis=1)
    left, top, right, bottom = boxes[nearest].T
    deltas = np.stack(
        [
            ((top + bottom) / 2 - y) / height,
            ((left + right) / 2 - x) / width,
            np.log((bottom - top) / height),
            np.log((right - left) / width),
        ],
        axis=-1,
    )
    logits = random.normal(-5 + noise, 0.3 + noise, (len(y), CLASSES))
    logits[np.arange(len(y)), classes[nearest]] += 12 * (best - 0.3).clip(0)
    deltas = deltas / decoder.variance + random.normal(0, 0.2 + noise, deltas.shape)
    return {"box": deltas.clip(-15, 15).astype(np.float32), "classification": logits.astype(np.float32)}


def plain_iou(one, others):
    low, high = np.maximum(one[:, None, :2], others[None, :, :2]), np.minimum(one[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=-1)
    areas = [(box[:, 2:] - box[:, :2]).prod(axis=-1) for box in (one, others)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def as_int8(outputs):
    """The outputs in two parts each, int8 with a scale of its own: what a .tflite gives; and the same as floats."""
    parts = {}
    for name, values in outputs.items():
        parts[name] = []
        for piece in np.array_split(values, 2):
            scale = float(np.abs(piece).max()) / 127
            parts[name].append(Output(np.round(piece / scale).astype(np.int8), scale, 3))
    rows = {name: Rows(found) for name, found in parts.items()}
    return rows, {name: found.floats() for name, found in rows.items()}


def same(ours, theirs):
    """Whether all boxes, classes and scores are equal, to the last bit and in order."""
    return all(np.array_equal(getattr(ours, key), getattr(theirs, key)) for key in ("boxes", "classes", "scores"))


def compare(count, seed=0):
    """Decodes scenes as they are decoded now and by version 0.1.0.

    Returns:
        Cases, boxes, and cases that differ.
    """
    from digits import make_scenes

    scenes, random = make_scenes(count, "train", seed=seed), np.random.default_rng(seed)
    cases = boxes = different = 0
    decoders = [decoder(kind) for kind in KINDS]
    for index in range(count):
        here = scenes.classes[index] >= 0
        left, top, width, height = scenes.boxes[index][here].T
        corners, classes = np.stack([left, top, left + width, top + height], axis=-1), scenes.classes[index][here]
        for one in decoders:
            outputs = heads(one, corners, classes.astype(int), random, (0, 0.5, 3)[index % 3])
            for given, floats in ((outputs, outputs), as_int8(outputs)):
                ours = one(given, (SIZE, SIZE), Request())
                theirs = plain_nms.decode(one, floats, (SIZE, SIZE), Request())
                cases, boxes, different = cases + 1, boxes + len(theirs), different + (not same(ours, theirs))
    return cases, boxes, different


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))  # as pytest does
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="scenes")
    cases, boxes, different = compare(parser.parse_args().count)
    print(f"{cases} cases, {boxes} boxes, {different} cases differ")
    sys.exit(different > 0)
