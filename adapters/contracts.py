"""What a task reads of a backbone, checked before anything is built.

Task libraries trust their backbones: a missing level, a stride that is not what the task's upsampling expects or
a size that does not divide fails deep inside a graph, or trains on wrong targets. A :class:`Contract` is checked
first and says what to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resnet_backbones.backbones.features import FeatureInfo, read_features
from resnet_backbones.keras_compat import keras, keras_name


@dataclass(frozen=True)
class Contract:
    """What a task needs.

    Args:
        task: the task's name, for messages.
        strides: level -> the stride the task is built for; ``None`` where any will do.
        multiple: height and width of the input must divide by it (where they are known).
        static_size: whether height and width must be known.
        distinct_channels: whether no two levels may have the same number of channels.
        single_output: whether the task takes the backbone's own output, one feature map.
    """

    task: str
    strides: Mapping[str, int | None] = field(default_factory=dict)
    multiple: int = 1
    static_size: bool = False
    distinct_channels: bool = False
    single_output: bool = False


def check(backbone: Any, contract: Contract) -> dict[str, FeatureInfo]:
    """Checks a backbone against a contract.

    Args:
        backbone: a functional Keras model with ``pyramid_level_inputs`` (level -> layer name): one of this
            library's, or of the task's own library.
        contract: what the task needs.

    Returns:
        The levels the contract names, with their channels, strides and layers.

    Raises:
        TypeError: ``backbone`` is no functional Keras model with levels.
        ValueError: a level is missing, a stride differs, or the input's size does not fit.

    Example:
        >>> check(backbone, Contract("RetinaNet", {"P3": 8, "P4": 16, "P5": 32}, multiple=32))["P3"].channels
        128
    """
    _check_kind(backbone, contract)
    _check_size(backbone, contract)
    levels = dict(backbone.pyramid_level_inputs) if contract.strides else {}
    missing = [level for level in contract.strides if level not in levels]
    if missing:
        raise ValueError(
            f"{contract.task} needs the levels {_list(contract.strides)}; backbone {backbone.name!r} has "
            f"{_list(levels)} and lacks {_list(missing)}. Choose a backbone with these stages, or name the layers "
            "yourself: from_model(model, levels={'P3': layer_name, ...})."
        )
    info = read_features(backbone, {level: levels[level] for level in contract.strides}) if levels else {}
    _check_strides(backbone, contract, info)
    if contract.distinct_channels:
        _check_channels(backbone, contract, info)
    return info


def check_data_format(task: str) -> None:
    """Raise ``ValueError`` under Keras' global ``"channels_first"``, which the task's own layers would take."""
    if keras.backend.image_data_format() != "channels_last":
        raise ValueError(
            f"{task} is built of layers that take Keras' global image_data_format, which is "
            f"{keras.backend.image_data_format()!r}; backbones are channels_last. Set it first: "
            'keras.backend.set_image_data_format("channels_last").'
        )


def _check_kind(backbone: Any, contract: Contract) -> None:
    check_data_format(contract.task)
    if not isinstance(backbone, keras.Model):
        raise TypeError(
            f"{contract.task} needs a backbone that is a {keras_name()} model, got {type(backbone).__name__}. Make one "
            "with create_backbone(name, ...). (TF_USE_LEGACY_KERAS chooses between Keras 3 and tf_keras.)"
        )
    inputs = getattr(backbone, "inputs", None)
    if not inputs or len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise TypeError(
            f"{contract.task} needs a functional backbone of one image input (height, width, channels); "
            f"{backbone.name!r} is none. Make one with create_backbone(name, ...) or from_model(model, levels=...)."
        )
    if contract.strides and not hasattr(backbone, "pyramid_level_inputs"):
        raise TypeError(
            f"{contract.task} needs to know the backbone's levels; {backbone.name!r} does not name them "
            "(no pyramid_level_inputs). Wrap it: from_model(model, levels={'P3': layer_name, ...})."
        )
    if contract.single_output:
        shape: tuple[int | None, ...] = tuple(getattr(backbone.output, "shape", ()))
        if len(shape) != 4 or shape[-1] is None:
            raise ValueError(
                f"{contract.task} pools the backbone's own output, one feature map (batch, height, width, channels); "
                f"{backbone.name!r} gives {shape or type(backbone.output).__name__}."
            )


def _check_size(backbone: Any, contract: Contract) -> None:
    height, width = backbone.inputs[0].shape[1:3]
    if contract.static_size and None in (height, width):
        raise ValueError(
            f"{contract.task} needs a fixed input size; backbone {backbone.name!r} takes ({height}, {width}). Create "
            "it with one: create_backbone(name, input_shape=(512, 512, 3))."
        )
    wrong = [size for size in (height, width) if size is not None and size % contract.multiple]
    if wrong:
        step = contract.multiple
        fits = tuple(None if size is None else -(-size // step) * step for size in (height, width))
        raise ValueError(
            f"{contract.task} needs a height and width that divide by {step}, because feature maps are halved and "
            f"doubled again; backbone {backbone.name!r} takes {height}x{width}. The next size that fits is "
            f"{fits[0]}x{fits[1]}: resize or pad the images and create the backbone with that input_shape."
        )


def _check_strides(backbone: Any, contract: Contract, info: Mapping[str, FeatureInfo]) -> None:
    for level, wanted in contract.strides.items():
        if wanted is not None and info[level].stride != wanted:
            raise ValueError(
                f"{contract.task} is built for stride {wanted} at level {level}; in backbone {backbone.name!r} it is "
                f"{info[level].stride} (layer {info[level].layer_name!r}). Create the backbone with the usual strides "
                "(output_stride=32), or name other layers with from_model(model, levels=...)."
            )


def _check_channels(backbone: Any, contract: Contract, info: Mapping[str, FeatureInfo]) -> None:
    channels = {level: feature.channels for level, feature in info.items()}
    if len(set(channels.values())) < len(channels):
        raise ValueError(
            f"{contract.task} names a layer after each level's number of channels, so no two may be equal; backbone "
            f"{backbone.name!r} has {channels}. Choose another backbone or other widths."
        )


def _list(names: Any) -> str:
    return ", ".join(names) or "none"
