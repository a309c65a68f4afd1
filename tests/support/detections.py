"""Found boxes compared with those of another implementation."""

from __future__ import annotations

import numpy as np

from resnet_backbones.runtime.decoders import Request


def assert_same_detections(ours, classes, scores, boxes, pixels=1):
    """Equal classes in one order, equal scores, and boxes within a thousandth of a pixel; boxes count in `pixels`."""
    np.testing.assert_array_equal(ours.classes, classes)
    np.testing.assert_allclose(ours.scores, scores, atol=1e-6)
    np.testing.assert_allclose(ours.boxes * pixels, boxes * pixels, atol=1e-3)


def assert_decoded_alike(decode, heads, theirs, size, box_format):
    """Heads of several images, decoded one by one, are what KerasCV's ``decode_predictions`` made of them together."""
    pixels = max(size) if box_format.startswith("rel") else 1
    for index, count in enumerate(theirs["num_detections"]):
        ours = decode({name: value[index] for name, value in heads.items()}, size, Request())
        assert len(ours) == count > 0
        assert ours.box_format == box_format
        found = (theirs[name][index][:count] for name in ("classes", "confidence", "boxes"))
        assert_same_detections(ours, *found, pixels)
