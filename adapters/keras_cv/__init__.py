"""KerasCV's tasks on this library's backbones, each KerasCV's own object.

A backbone is one of this library's or one of KerasCV's. Each function checks what the task needs of it before
building (see :mod:`resnet_backbones.adapters.contracts`).

On Keras 3 compile detectors with ``jit_compile=False``: their label encoding does not compile with XLA.
A loaded detector comes back uncompiled: compile it again before training on.

KerasCV's decoders drop boxes below a score, 0.5 in RetinaNet and 0.2 in YOLOV8, whatever reads them. Average precision
needs the weak boxes too: to measure it give ``prediction_decoder=`` a ``confidence_threshold`` of about 0.01 (one
RetinaNet's mAP read 0.034 instead of 0.169), and leave the default for use (docs/training.md).

A task called inside a functional model of yours with ``training=False`` stays in inference while that trains; on Keras
3, plain Keras models do not (docs/training.md).

Source: Wood et al., KerasCV, https://github.com/keras-team/keras-cv
"""

from __future__ import annotations

from typing import Any, NoReturn

from resnet_backbones.errors import missing

try:
    import keras_cv
except ImportError as error:
    raise missing("The KerasCV adapter", "KerasCV", "keras-cv", error) from error

from resnet_backbones.adapters.contracts import Contract, check
from resnet_backbones.adapters.keras_cv.parts import (
    check_anchors,
    classifier_metadata,
    plain_anchor_generator,
    prediction_heads,
    retinanet_metadata,
    segmenter_metadata,
    yolo_v8_metadata,
)
from resnet_backbones.adapters.keras_cv.tasks import (
    DeepLabV3Plus,
    ImageClassifier,
    LevelView,
    RetinaNet,
    SegFormer,
    YOLOV8Detector,
)
from resnet_backbones.tasks import TaskDescriptor, register_task

__all__ = ["deeplab_v3_plus", "faster_rcnn", "image_classifier", "retinanet", "segformer", "yolo_v8_detector"]

_DETECTOR_STRIDES = {"P3": 8, "P4": 16, "P5": 32}
RETINANET = Contract("RetinaNet", _DETECTOR_STRIDES, multiple=32, static_size=True)
YOLO_V8 = Contract("YOLOV8Detector", _DETECTOR_STRIDES, multiple=32, static_size=True)
IMAGE_CLASSIFIER = Contract("ImageClassifier", single_output=True)
DEEPLAB_V3_PLUS = Contract("DeepLabV3Plus", {"P2": 4, "P5": 32}, multiple=32, static_size=True)
SEGFORMER_LEVELS = ("P2", "P3", "P4", "P5")

register_task(keras_cv.models.RetinaNet, TaskDescriptor("retinanet", retinanet_metadata))
register_task(keras_cv.models.YOLOV8Detector, TaskDescriptor("yolo_v8_detector", yolo_v8_metadata, int8_share=0.95))
register_task(keras_cv.models.ImageClassifier, TaskDescriptor("image_classifier", classifier_metadata))
_SEGMENTATION = TaskDescriptor("segmentation", segmenter_metadata, class_per_pixel=True)
register_task(keras_cv.models.DeepLabV3Plus, _SEGMENTATION)
register_task(keras_cv.models.SegFormer, _SEGMENTATION)


def retinanet(
    backbone: Any,
    num_classes: int,
    bounding_box_format: str,
    *,
    anchor_generator: Any = None,
    label_encoder: Any = None,
    prediction_decoder: Any = None,
    head_depth: int = 3,
    classification_head: Any = None,
    box_head: Any = None,
    **kwargs: Any,
) -> keras_cv.models.RetinaNet:
    """A RetinaNet detector.

    Args:
        backbone: levels P3, P4, P5 at strides 8, 16, 32; height and width known, and divide by 32.
        num_classes: classes without background.
        bounding_box_format: of labels and predictions, e.g. ``"xywh"`` (pixels, left top corner and size).
        anchor_generator: a ``keras_cv.layers.AnchorGenerator`` of five levels at strides 8, 16, 32, 64, 128. The
            default's anchors are 32 to 812 pixels: for small images or objects give smaller ``sizes``. Any number
            of anchors a cell; the heads are made to match.
        label_encoder: a ``RetinaNetLabelEncoder``, in place of ``anchor_generator``.
        prediction_decoder: a ``keras_cv.layers.NonMaxSuppression`` (default: IoU 0.5, confidence 0.5, 100
            detections) or ``MultiClassNonMaxSuppression``. ``predict``, KerasCV's metrics and exported files see no box
            below its ``confidence_threshold``: for mAP give one of 0.01, with ``from_logits=True``.
        head_depth: 3x3 convolutions of 256 channels in each head before its last; the heads run on every level, so
            a smaller number saves much on a CPU. KerasCV's own is 3, the paper's 4.
        classification_head: a layer in place of the usual head; gives ``num_classes`` times anchors a cell channels.
        box_head: a layer in place of the usual head; gives 4 times anchors a cell channels.
        **kwargs: passed to ``keras_cv.models.RetinaNet``, e.g. ``name``.

    Returns:
        ``keras_cv.models.RetinaNet`` with outputs ``box`` (batch, anchors, 4) and ``classification``
        (batch, anchors, num_classes), logits.

    Raises:
        TypeError: ``backbone`` is no functional model with levels.
        ValueError: the backbone, the anchors or a head do not fit the task; the message says what to change.

    Example:
        >>> backbone = create_backbone("resnet18", input_shape=(512, 512, 3))
        >>> detector = retinanet(backbone, num_classes=20, bounding_box_format="xywh")
        >>> detector.compile(box_loss="smoothl1", classification_loss="focal", optimizer="adam", jit_compile=False)
        >>> detector.fit(images, {"boxes": boxes, "classes": classes})

    Source: Lin et al., Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002
    """
    check(backbone, RETINANET)
    if kwargs.get("feature_pyramid") is not None:
        raise ValueError(
            "KerasCV's RetinaNet forgets a custom feature_pyramid when it is saved, so such a detector could not be "
            "loaded. Leave it out, or build keras_cv.models.RetinaNet yourself and keep its weights only."
        )
    if label_encoder is not None and anchor_generator is not None:
        raise ValueError("Give anchor_generator or label_encoder, not both: a label encoder holds its own anchors.")
    if label_encoder is None:
        default = keras_cv.models.RetinaNet.default_anchor_generator
        anchor_generator = plain_anchor_generator(anchor_generator or default(bounding_box_format))
    anchors_per_cell = check_anchors(anchor_generator, label_encoder)
    heads = prediction_heads(num_classes, anchors_per_cell, head_depth, classification_head, box_head)
    return RetinaNet(
        backbone=backbone,
        num_classes=num_classes,
        bounding_box_format=bounding_box_format,
        anchor_generator=anchor_generator,
        label_encoder=label_encoder,
        prediction_decoder=prediction_decoder,
        **heads,
        **kwargs,
    )


def yolo_v8_detector(
    backbone: Any, num_classes: int, bounding_box_format: str, *, fpn_depth: int = 2, **kwargs: Any
) -> keras_cv.models.YOLOV8Detector:
    """A YOLOV8 detector.

    Args:
        backbone: levels P3, P4, P5 at strides 8, 16, 32; height and width known, and divide by 32.
        num_classes: classes without background.
        bounding_box_format: of labels and predictions, e.g. ``"xywh"``.
        fpn_depth: depth of the pyramid's blocks, 1 to 3.
        **kwargs: passed to ``keras_cv.models.YOLOV8Detector``: ``label_encoder``, ``name``, ``prediction_decoder``
            (default: IoU 0.7, confidence 0.2; for mAP give one with ``confidence_threshold=0.01, from_logits=False``).

    Returns:
        ``keras_cv.models.YOLOV8Detector`` with outputs ``boxes`` (batch, cells, 64), distributions over distances,
        and ``classes`` (batch, cells, num_classes), probabilities.

    Raises:
        TypeError: ``backbone`` is no functional model with levels.
        ValueError: the backbone does not fit the task; the message says what to change.

    Example:
        >>> detector = yolo_v8_detector(create_backbone("resnet18", input_shape=(512, 512, 3)), 20, "xywh")
        >>> detector.compile(box_loss="ciou", classification_loss="binary_crossentropy", optimizer="adam",
        ...                  jit_compile=False)

    Source: Jocher et al., Ultralytics YOLOv8, https://github.com/ultralytics/ultralytics
    """
    check(backbone, YOLO_V8)
    return YOLOV8Detector(
        backbone=backbone,
        num_classes=num_classes,
        bounding_box_format=bounding_box_format,
        fpn_depth=fpn_depth,
        **kwargs,
    )


def image_classifier(
    backbone: Any, num_classes: int, *, pooling: str = "avg", activation: Any = "softmax", **kwargs: Any
) -> keras_cv.models.ImageClassifier:
    """An image classifier: pooling and one dense layer on the backbone's last feature map.

    Args:
        backbone: any whose output is one feature map; any input size.
        num_classes: number of classes.
        pooling: ``"avg"`` or ``"max"``.
        activation: of the last layer; ``None`` for logits.
        **kwargs: passed to ``keras_cv.models.ImageClassifier``, e.g. ``name``.

    Returns:
        ``keras_cv.models.ImageClassifier`` with output (batch, num_classes).

    Raises:
        TypeError: ``backbone`` is no functional model.
        ValueError: its output is no feature map, or ``pooling`` is unknown.

    Example:
        >>> classifier = image_classifier(create_backbone("resnet50", input_shape=(224, 224, 3)), num_classes=10)
        >>> classifier.compile("adam", "sparse_categorical_crossentropy")

    Source: He et al., Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385
    """
    check(backbone, IMAGE_CLASSIFIER)
    return ImageClassifier(backbone=backbone, num_classes=num_classes, pooling=pooling, activation=activation, **kwargs)


def deeplab_v3_plus(
    backbone: Any, num_classes: int, *, projection_filters: int = 48, **kwargs: Any
) -> keras_cv.models.DeepLabV3Plus:
    """A DeepLabV3+ segmenter.

    Args:
        backbone: levels P2, P5 at strides 4, 32. KerasCV's upsampling is fixed for these, so no dilated backbone;
            height and width known, and divide by 32.
        num_classes: classes, background included.
        projection_filters: channels the low-level features are projected to.
        **kwargs: passed to ``keras_cv.models.DeepLabV3Plus``: ``spatial_pyramid_pooling``,
            ``segmentation_head``, ``name``.

    Returns:
        ``keras_cv.models.DeepLabV3Plus`` with output (batch, height, width, num_classes), probabilities.

    Raises:
        TypeError: ``backbone`` is no functional model with levels.
        ValueError: the backbone does not fit the task; the message says what to change.

    Example:
        >>> segmenter = deeplab_v3_plus(create_backbone("resnet50", input_shape=(512, 512, 3)), num_classes=21)
        >>> segmenter.compile("adam", "sparse_categorical_crossentropy")

    Source: Chen et al., Encoder-Decoder with Atrous Separable Convolution, https://arxiv.org/abs/1802.02611
    """
    check(backbone, DEEPLAB_V3_PLUS)
    return DeepLabV3Plus(backbone=backbone, num_classes=num_classes, projection_filters=projection_filters, **kwargs)


def segformer(
    backbone: Any, num_classes: int, *, projection_filters: int = 256, **kwargs: Any
) -> keras_cv.models.SegFormer:
    """A SegFormer decoder on a convolutional backbone.

    Args:
        backbone: levels P2 to P5, any strides, no two with the same number of channels; height and width known.
        num_classes: classes, background included.
        projection_filters: channels every level is projected to.
        **kwargs: passed to ``keras_cv.models.SegFormer``, e.g. ``name``.

    Returns:
        ``keras_cv.models.SegFormer`` with output (batch, height, width, num_classes), probabilities. Its
        ``backbone`` is a view of yours with the levels P2 to P5, on the same layers.

    Raises:
        TypeError: ``backbone`` is no functional model with levels.
        ValueError: the backbone does not fit the task; the message says what to change.

    Example:
        >>> segmenter = segformer(create_backbone("resnet18", input_shape=(256, 256, 3)), num_classes=21)
        >>> segmenter.compile("adam", "sparse_categorical_crossentropy")

    Source: Xie et al., SegFormer, https://arxiv.org/abs/2105.15203
    """
    levels = dict.fromkeys(SEGFORMER_LEVELS)
    check(backbone, Contract("SegFormer", levels, static_size=True, distinct_channels=True))
    view = LevelView(backbone, SEGFORMER_LEVELS)
    return SegFormer(backbone=view, num_classes=num_classes, projection_filters=projection_filters, **kwargs)


def faster_rcnn(*args: Any, **kwargs: Any) -> NoReturn:
    """Always an error: KerasCV 0.9's FasterRCNN is broken at its first call, with any backbone, in both Kerases.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "KerasCV's FasterRCNN fails at its first call whatever the backbone (RPNHead.build and the ROI alignment of "
        "KerasCV 0.9 are broken upstream, in Keras 3 and tf_keras). Use retinanet(...) or yolo_v8_detector(...)."
    )
