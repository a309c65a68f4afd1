"""Anchors and heads of KerasCV's RetinaNet, made to fit each other, and what the runtime must know of each task."""

from __future__ import annotations

import math
from typing import Any

import keras_cv

from resnet_backbones.keras_compat import keras

#: KerasCV decodes with these whatever the label encoder was given.
BOX_VARIANCE = (0.1, 0.1, 0.2, 0.2)
#: Of the levels P3 to P7 that KerasCV's feature pyramid makes.
STRIDES = (8, 16, 32, 64, 128)
_PRIOR = 0.01  # share of anchors that are objects, at the start (section 4.1 of the paper)


def anchor_settings(generator: Any) -> dict[str, Any]:
    """What an ``AnchorGenerator`` was made with, in plain numbers and lists.

    Args:
        generator: a ``keras_cv.layers.AnchorGenerator``.

    Returns:
        ``sizes`` and ``strides`` one a level, ``scales`` and ``aspect_ratios`` shared by all, ``clip_boxes``,
        ``bounding_box_format``.
    """
    levels = list(generator.anchor_generators.values())
    return {
        "sizes": [float(level.sizes) for level in levels],
        "scales": [float(scale) for scale in levels[0].scales],
        "aspect_ratios": [float(ratio) for ratio in levels[0].aspect_ratios],
        "strides": [int(level.stride) for level in levels],
        "clip_boxes": bool(levels[0].clip_boxes),
        "bounding_box_format": generator.bounding_box_format,
    }


def plain_anchor_generator(generator: Any) -> Any:
    """The same anchors, made of plain lists.

    ``AnchorGenerator`` saves the arguments it was called with as they are; arrays and dictionaries with numbers for
    keys do not come back from a ``.keras`` file as they went in.
    """
    if type(generator) is not keras_cv.layers.AnchorGenerator:
        return generator
    try:
        settings = anchor_settings(generator)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "The anchor generator must have one size a level, and scales and aspect ratios as lists of numbers: "
            f"{error}."
        ) from error
    return keras_cv.layers.AnchorGenerator(**settings)


def check_anchors(generator: Any, label_encoder: Any) -> int:
    """Checks that the anchors lie where the feature pyramid looks.

    Args:
        generator: the anchor generator, or ``None`` where ``label_encoder`` holds it.
        label_encoder: a ``RetinaNetLabelEncoder``, or ``None``.

    Returns:
        Anchors a cell.

    Raises:
        ValueError: other strides than the pyramid's, or a box variance KerasCV would not decode with.
    """
    if label_encoder is not None:
        generator = label_encoder.anchor_generator
        variance = tuple(float(value) for value in label_encoder.box_variance_tuple)
        if variance != BOX_VARIANCE:
            raise ValueError(
                f"The label encoder has box_variance={variance}, but KerasCV's RetinaNet always decodes with "
                f"{BOX_VARIANCE}: boxes would come out wrong. Leave box_variance at its default."
            )
    settings = anchor_settings(generator)
    if tuple(settings["strides"]) != STRIDES:
        raise ValueError(
            f"RetinaNet's feature pyramid has levels at strides {STRIDES}; the anchor generator has "
            f"{settings['strides']}. Give it strides={list(STRIDES)} and five sizes."
        )
    return len(settings["scales"]) * len(settings["aspect_ratios"])


def prediction_heads(
    num_classes: int, anchors: int, depth: int, classification_head: Any, box_head: Any
) -> dict[str, Any]:
    """The two heads as KerasCV makes them, for any number of anchors a cell and any depth.

    Args:
        num_classes: number of classes.
        anchors: anchors a cell.
        depth: convolutions before the last one.
        classification_head: a layer to use instead, or ``None``.
        box_head: a layer to use instead, or ``None``.

    Raises:
        ValueError: ``depth`` below 1, or a given head with the wrong number of channels.
    """
    if depth < 1:
        raise ValueError(f"head_depth must be at least 1, got {depth}.")
    head = keras_cv.models.retinanet.PredictionHead
    prior = keras.initializers.Constant(-math.log((1 - _PRIOR) / _PRIOR))
    made = {
        "classification_head": classification_head or head(anchors * num_classes, prior, num_conv_layers=depth),
        "box_head": box_head or head(anchors * 4, keras.initializers.Zeros(), num_conv_layers=depth),
    }
    for name, channels in (("classification_head", anchors * num_classes), ("box_head", anchors * 4)):
        given = getattr(made[name], "output_filters", channels)
        if given != channels:
            raise ValueError(f"{name} gives {given} channels; {anchors} anchors a cell need {channels}.")
    return made


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
