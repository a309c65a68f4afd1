"""KerasCV's tasks as the adapter builds them: KerasCV's classes, saved whole, with a few faults of KerasCV 0.9 mended.

Each class is a subclass of KerasCV's of the same name and does what that does, but for this:

- A saved file, a copy and a pickle keep what was changed on layers after the model was built (frozen layers,
  activations, regularizers), and the model's name. KerasCV keeps its constructor's arguments only, and Keras 3
  unfreezes the backbone of a loaded classifier or SegFormer.
- Detectors encode labels and decode boxes in float32. Under mixed precision KerasCV's mix types and raise TypeError:
  neither detector predicts, and some do not train.
- In a functional model of yours it runs as it was called there, ``detector(x, training=False)``; Keras 3 has it train
  when the outer model does.
- Boxes without area count as padding; KerasCV's YOLOV8 gets NaN weights of one. A batch without any box, of shape
  (N, 0, 4), trains; KerasCV's RetinaNet fails.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Any

import keras_cv
from keras_cv import bounding_box

from resnet_backbones.adapters.contracts import check_data_format
from resnet_backbones.backbones.model import Backbone
from resnet_backbones.keras_compat import (
    IS_KERAS_3,
    KeepsTraining,
    LayersAsMade,
    global_policy,
    global_policy_name,
    keras,
    numbered,
    ops,
    policy_of,
    serializable,
    set_float32,
)


@serializable("LevelView")
class LevelView(Backbone):
    """The same layers as ``backbone``, fewer levels, and ``embedding_dims`` as KerasCV's SegFormer reads them.

    SegFormer takes every level in ``pyramid_level_inputs``, P1 at full cost too; this leaves the rest out.

    Args:
        backbone: a backbone of this library or of KerasCV.
        levels: the levels to show, in order.
        name: the model's name, by default the backbone's.
        trainable: the model's own flag, by default the backbone's; layers keep theirs.
    """

    def __init__(
        self, backbone: Any, levels: Iterable[str], name: str | None = None, trainable: bool | None = None
    ) -> None:
        layers = {level: backbone.pyramid_level_inputs[level] for level in levels}
        trainable = backbone.trainable if trainable is None else trainable
        super().__init__(backbone.inputs[0], backbone.output, layers, name=name or backbone.name, trainable=trainable)
        self.spec = getattr(backbone, "spec", None)
        # Kept for get_config only; Keras must not track it, its layers are this model's own already.
        object.__setattr__(self, "_viewed", backbone)

    @property
    def embedding_dims(self) -> list[int]:
        """Channels of each level, in order."""
        return [feature.channels for feature in self.feature_info.values()]

    def get_config(self) -> dict[str, Any]:
        """The viewed backbone, whole, and the levels shown."""
        return {
            "backbone": keras.saving.serialize_keras_object(self._viewed),
            "levels": list(self.pyramid_level_inputs),
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Backbone:
        """The view that :meth:`get_config` describes."""
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
        return cls(**{**config, "backbone": backbone})._loaded()


_REMEDY = (
    "A file of a KerasCV task holds its arguments and the changed arguments of its layers. Keep the weights alone "
    "(model.save_weights), or build such a model from its own layers with keras.Model."
)


class _SavedWhole(KeepsTraining):
    """Mixed in before KerasCV's class: saves what was changed on its layers."""

    # By *args Keras' clone_model would take it for a class that is made of inputs and outputs.
    def __init__(self, backbone: Any, num_classes: int, **kwargs: Any) -> None:
        check_data_format(type(self).__name__)
        super().__init__(backbone=backbone, num_classes=num_classes, **kwargs)  # type: ignore[call-arg]
        self._policy_name = global_policy_name()
        viewed = getattr(self.backbone, "_viewed", self.backbone)  # type: ignore[attr-defined]
        inside = {id(layer): layer for layer in (*self._flatten_layers(include_self=False), *_flattened(self.backbone))}  # type: ignore[attr-defined]
        saved = _flattened(viewed) if isinstance(viewed, Backbone) else []
        self._as_made = LayersAsMade(numbered(inside.values()), without_arguments=map(id, saved))

    def get_config(self) -> dict[str, Any]:
        """KerasCV's arguments, the model's name, and what was changed on its layers since it was built."""
        changes = self._as_made.changes(self, _REMEDY)
        own = {"name": self.name, "trainable": self.trainable, "policy": self._policy_name}  # type: ignore[attr-defined]
        return {**own, **super().get_config(), **({"layer_changes": changes} if changes else {})}  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The task that ``get_config`` described."""
        arguments = dict(config)
        changes, trainable = arguments.pop("layer_changes", {}), arguments.pop("trainable", True)
        with global_policy(arguments.pop("policy")):  # KerasCV's layers take the global one
            task = super().from_config(arguments)  # type: ignore[misc]
        task._as_made.change(task, trainable, changes)
        return task


class _Detector(_SavedWhole):
    """Mixed in before KerasCV's detectors: decodes in float32, trains on images without objects."""

    def decode_predictions(self, predictions: dict[str, Any], images: Any) -> Any:
        """Boxes, classes and confidences, of raw outputs; computed in float32."""
        with self._in_float32(images):
            return super().decode_predictions(_float32(predictions), ops.cast(images, "float32"))  # type: ignore[misc]

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any) -> Any:
        """KerasCV's loss, of the boxes that have an area; computed in float32."""
        with self._in_float32(x):
            x = ops.cast(x, "float32")
            boxes = _real_boxes(y, self.bounding_box_format, x)  # type: ignore[attr-defined]
            return super().compute_loss(x, boxes, _float32(y_pred), *args, **kwargs)  # type: ignore[misc]

    def _in_float32(self, images: Any) -> Any:
        """Have the layers that handle boxes compute in float32: those there are for good, those made within it too."""
        if None in tuple(images.shape[1:3]):
            raise ValueError(
                f"{type(self).__name__} places boxes on a grid of anchors, so it needs images of known size; it "
                f"is given {tuple(images.shape)}. Create its backbone with one, create_backbone(name, "
                "input_shape=(512, 512, 3)), and bring all images to that size."
            )
        for layer in (self.prediction_decoder, self.label_encoder):  # type: ignore[attr-defined]
            set_float32(layer)
        anchors = (getattr(self, "anchor_generator", None), getattr(self.label_encoder, "anchor_generator", None))  # type: ignore[attr-defined]
        for generator in anchors:
            for level in getattr(generator, "anchor_generators", {}).values():
                level.dtype = "float32"
        # Only where it is another one: replicas of tf.distribute are threads, and share it.
        return global_policy("float32") if global_policy_name() != "float32" else contextlib.nullcontext()


@serializable("RetinaNet")
class RetinaNet(_Detector, keras_cv.models.RetinaNet):
    """``keras_cv.models.RetinaNet``, saved whole."""


@serializable("YOLOV8Detector")
class YOLOV8Detector(_Detector, keras_cv.models.YOLOV8Detector):
    """``keras_cv.models.YOLOV8Detector``, saved whole."""

    def __init__(self, backbone: Any, num_classes: int, **kwargs: Any) -> None:
        own, theirs = policy_of(keras.layers.Layer()), policy_of(backbone.layers[-1])
        if not IS_KERAS_3 and own.compute_dtype != theirs.compute_dtype:
            raise ValueError(
                "On tf_keras, KerasCV's YOLOV8Detector joins the backbone's features with its own as they are, so both "
                f"must have one dtype policy: backbone {backbone.name!r} has {theirs.name!r}, the global one is "
                f"{own.name!r}. Create the backbone and the detector under the same global policy."
            )
        super().__init__(backbone, num_classes, **kwargs)


@serializable("ImageClassifier")
class ImageClassifier(_SavedWhole, keras_cv.models.ImageClassifier):
    """``keras_cv.models.ImageClassifier``, saved whole."""


@serializable("DeepLabV3Plus")
class DeepLabV3Plus(_SavedWhole, keras_cv.models.DeepLabV3Plus):
    """``keras_cv.models.DeepLabV3Plus``, saved whole."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The task that ``get_config`` described.

        If Keras numbered its head, the head gets another name: a layer that KerasCV creates here may have that number.
        """
        head = config.get("segmentation_head")
        if isinstance(head, dict) and re.fullmatch(r"sequential(_\d+)?", head["config"]["name"]):
            named = {**head, "config": {**head["config"], "name": "segmentation_head"}}
            config = {**config, "segmentation_head": named}
        return super().from_config(config)


@serializable("SegFormer")
class SegFormer(_SavedWhole, keras_cv.models.SegFormer):
    """``keras_cv.models.SegFormer``, saved whole."""


def _flattened(model: Any) -> list[Any]:
    return list(model._flatten_layers())


def _float32(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: ops.cast(tensor, "float32") for name, tensor in tensors.items()}


def _real_boxes(labels: Any, box_format: str, images: Any) -> Any:
    """The labels, boxes without an area as KerasCV's padding, -1; with a row of padding where there may be no box."""
    if not isinstance(labels, dict):
        return labels  # KerasCV says what it takes
    labels = bounding_box.to_dense(labels)
    boxes, classes = ops.cast(labels["boxes"], "float32"), ops.cast(labels["classes"], "float32")
    sizes = bounding_box.convert_format(boxes, source=box_format, target="xywh", images=images)[..., 2:]
    real = ops.all(sizes > 0.0, axis=-1)
    boxes = ops.where(real[..., None], boxes, -ops.ones_like(boxes))
    classes = ops.where(real if len(classes.shape) == 2 else real[..., None], classes, -ops.ones_like(classes))
    if not boxes.shape[1]:
        boxes, classes = (
            ops.pad(tensor, [[0, 0], [0, 1]] + [[0, 0]] * (len(tensor.shape) - 2), constant_values=-1.0)
            for tensor in (boxes, classes)
        )
    return {**labels, "boxes": boxes, "classes": classes}
