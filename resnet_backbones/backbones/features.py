"""What a backbone offers at each level, read off its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnet_backbones.keras_compat import producer

Size = tuple[int, ...]


@dataclass(frozen=True)
class FeatureInfo:
    """One level of a feature pyramid.

    Args:
        channels: size of the last axis.
        stride: input pixels for each step in the feature map, a power of two.
        layer_name: the layer whose output it is.
    """

    channels: int
    stride: int
    layer_name: str


def read_features(model: Any, levels: Mapping[str, str]) -> dict[str, FeatureInfo]:
    """Channels and stride of each level, from the shapes the graph itself infers.

    Args:
        model: a functional Keras model with one image input.
        levels: level -> layer name.

    Raises:
        ValueError: a level is no feature map (N, H, W, C), or its stride is no power of two.
    """
    tensors = {level: model.get_layer(name).output for level, name in levels.items()}
    for level, tensor in tensors.items():
        if len(tensor.shape) != 4 or tensor.shape[-1] is None:
            raise ValueError(
                f"level {level} ends in layer {levels[level]!r}, whose output has shape {tuple(tensor.shape)}: a level "
                "must be a feature map (batch, height, width, channels) with a known number of channels."
            )
    image, sizes = _sizes(model.inputs[0], tensors)
    return {
        level: FeatureInfo(int(tensor.shape[-1]), _stride(level, levels[level], image, sizes[level]), levels[level])
        for level, tensor in tensors.items()
    }


def _sizes(image: Any, tensors: Mapping[str, Any]) -> tuple[Size, dict[str, Size]]:
    """(height, width) of an image and of each level.

    The image is a large one, whatever the model's input: in a small one, or one of odd size, rounding hides the stride.
    A graph that takes its own size only (one that reshapes) is measured at that.
    """
    size = (512, 512)
    try:
        shapes = _propagate(list(tensors.values()), (1, *size, image.shape[-1]))
    except Exception:  # whatever a layer raises when a size does not suit it
        size = tuple(image.shape[1:3])
        shapes = {id(tensor): tensor.shape for tensor in tensors.values()}
    return size, {level: tuple(shapes[id(tensor)])[1:3] for level, tensor in tensors.items()}


def _propagate(tensors: list[Any], image_shape: tuple[int, ...]) -> dict[int, Any]:
    """``id`` of each symbolic tensor -> its shape, if the input had ``image_shape``."""
    shapes: dict[int, Any] = {}
    pending = list(tensors)
    while pending:
        tensor = pending[-1]
        sources, infer = producer(tensor)
        waiting = [source for source in sources if id(source) not in shapes]
        if waiting:
            pending.extend(waiting)
            continue
        shapes[id(tensor)] = infer({id(source): shapes[id(source)] for source in sources}) if sources else image_shape
        pending.pop()
    return shapes


def _stride(level: str, layer: str, image: Size, features: Size) -> int:
    known = None not in (*image, *features) and 0 not in features
    stride = image[0] // features[0] if known else 0
    if not known or image != (features[0] * stride, features[1] * stride) or stride & (stride - 1):
        raise ValueError(
            f"level {level} (layer {layer!r}) makes {features[0]}x{features[1]} of a {image[0]}x{image[1]} image: the "
            "stride of a level must be a power of two, the same for height and width."
        )
    return stride
