"""Arrays by some library's names into a backbone: names, axis order, values; and models that other libraries built.

The libraries are timm, torchvision, keras.applications and KerasHub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from resnet_backbones.backbones.model import Backbone
from resnet_backbones.errors import WeightsMismatchError
from resnet_backbones.weights.checkpoints import AmbiguousError, Found, find_network, foreign
from resnet_backbones.weights.names import CLASSIFIER, OWN, TORCH_SOURCES, find_names, sources_of
from resnet_backbones.weights.readers import Array
from resnet_backbones.weights.targets import Slot, Target, find_target, named_layers, slots_of
from resnet_backbones.weights.transfer import adapts, converted_shape, transfer, warn, warn_of_others, warn_of_pixels

_TORCH_WEIGHTS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load_arrays(
    target: Target,
    source: str,
    arrays: Mapping[str, Any],
    *,
    where: str,
    skip_mismatch: bool = False,
    prefix: str | None = None,
) -> None:
    """Sets the weights of ``target`` from arrays by the names and in the axis order of ``source``.

    Args:
        target: the backbone, or classifier.
        source: ``OWN`` or one of ``names.SOURCES``.
        arrays: name -> array; of torch's libraries, a checkpoint of whatever form.
        where: what ``arrays`` is, for errors.
        skip_mismatch: sets what fits and warns of the rest.
        prefix: under which of a checkpoint's prefixes the network is, where that is not plain.

    Raises:
        ValueError: the source's names for this family are not known, or a checkpoint holds the network twice.
        WeightsMismatchError: something does not fit; nothing was set.
    """
    key_of, prepare = _scheme(target, source)
    hint, others = "", tuple[str, ...]()
    if source in TORCH_SOURCES:
        found = _network(target, source, arrays, where, prefix)
        arrays, hint, others = found.arrays, found.hint, found.outside
    elif prefix is not None:
        raise ValueError(f"prefix={prefix!r} is for checkpoints of torch; {where} has the names of {source}.")
    arrays = prepare(arrays)
    expected = [key_of(slot) for slot in target.slots()]
    if target.head is None:  # a classifier is not ours then
        head = key_of(Slot(CLASSIFIER, "bias", "Dense", None)).removesuffix("bias")
        arrays = {key: value for key, value in arrays.items() if not key.startswith(head)}
    if source in TORCH_SOURCES and set(expected) <= set(arrays):
        left = foreign([key for key in arrays if key not in set(expected)], expected)
        arrays = {key: value for key, value in arrays.items() if key not in set(left)}
        others = (*(key.partition(".")[0] for key in left), *others)
    convert = from_torch_order if source in TORCH_SOURCES else from_keras_order
    transfer(target, arrays, key_of, convert, where=where, hint=hint, skip_mismatch=skip_mismatch)
    _warn_of_left_out(others, where)
    warn_of_others(target, where)


def recognise(target: Target, arrays: Mapping[str, Any]) -> str:
    """The source whose names ``arrays`` has most of; ``OWN`` if it has none of any."""

    def hits(source: str) -> int:
        if source in TORCH_SOURCES:
            try:
                return _network(target, source, arrays, "", None).fitting
            except AmbiguousError as error:
                return error.fitting
        key_of, prepare = _scheme(target, source)
        found = prepare(arrays)
        return sum(key_of(slot) in found for slot in target.slots())

    return max([OWN, *sources_of(target.backbone.spec)], key=hits)


def _network(target: Target, source: str, arrays: Mapping[str, Any], where: str, prefix: str | None) -> Found:
    key_of, _ = _scheme(target, source)
    stem = target.stem()

    def test(slot: Slot) -> Callable[[Array], bool]:
        is_stem = stem is not None and slot.variable is stem.variable

        def fits(array: Array) -> bool:
            shape = converted_shape(from_torch_order, slot, array.shape)
            return shape == slot.shape or (is_stem and adapts(shape, slot.shape))

        return fits

    return find_network(arrays, {key_of(slot): test(slot) for slot in target.slots()}, where=where, prefix=prefix)


def _warn_of_left_out(names: Iterable[str], where: str) -> None:
    """One line that names the modules a file held besides the network."""
    modules = sorted(set(names))
    if modules:
        more = f" and {len(modules) - 10} more" if len(modules) > 10 else ""
        warn(f"{where}: left out what is no part of this network: {', '.join(modules[:10])}{more}.")


def _scheme(target: Target, source: str) -> tuple[Callable[[Slot], str], Callable[[Mapping[str, Any]], Any]]:
    """Names of our weights in ``source``, and what is done to its arrays first."""
    if source == OWN:
        return lambda slot: slot.name, lambda arrays: arrays
    spec = target.backbone.spec
    layer_name, prepare = find_names(source, spec)
    weights = _TORCH_WEIGHTS if source in TORCH_SOURCES else {}
    return (
        lambda slot: f"{layer_name(slot.layer, spec)}.{weights.get(slot.weight, slot.weight)}",
        lambda arrays: prepare(arrays, spec),
    )


def from_torch_order(slot: Slot, value: np.ndarray) -> np.ndarray:
    """One of torch's weights in Keras' axis order, by the kind of layer it goes to."""
    if slot.weight != "kernel":
        return value
    if slot.kind == "Dense":  # torch: (out, in), or a 1x1 convolution
        value = value[:, :, 0, 0] if value.ndim == 4 and value.shape[2:] == (1, 1) else value
        return value.T
    if slot.kind == "DepthwiseConv2D":  # torch: (channels * multiplier, 1, height, width)
        channels, multiplier = slot.shape[2:]
        if value.ndim != 4 or value.shape[:2] != (channels * multiplier, 1):
            return value
        return value.reshape(channels, multiplier, *value.shape[2:]).transpose(2, 3, 0, 1)
    if slot.kind == "Conv2D":
        if value.ndim == 2:  # a linear layer in the place of a 1x1 convolution
            value = value[:, :, None, None]
        elif value.ndim == 3:  # a 1-D convolution (out, in, length) is one along the height
            value = value[:, :, :, None]
        return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    return value


def from_keras_order(slot: Slot, value: np.ndarray) -> np.ndarray:
    """One of Keras' weights for our layer: the order is the same, but dense layers may stand for 1x1 convolutions."""
    dense, conv = value.shape, slot.shape
    if slot.weight == "kernel" and {len(dense), len(conv)} == {2, 4}:
        longer = dense if len(dense) == 4 else conv
        if longer[:2] == (1, 1) and dense[-2:] == conv[-2:]:
            return value.reshape(conv)
    return value


def from_timm(
    target: Any,
    state_dict: Mapping[str, Any],
    *,
    skip_mismatch: bool = False,
    backbone: str | Backbone | None = None,
    prefix: str | None = None,
) -> None:
    """Sets weights from the ``state_dict`` of timm's model of the same name.

    Args:
        target: a backbone, e.g. ``create_backbone("resnet50d")``, or a classifier round one (KerasCV's
            ``ImageClassifier``, ``keras.Sequential([backbone, pooling, Dense])``), whose dense layer is then set
            too. With other than 3 input channels the stem is adapted: summed for 1, else repeated, as timm does.
        state_dict: name -> array: numpy arrays, torch tensors, or what safetensors loads.
        skip_mismatch: loads what fits and warns, naming the rest.
        backbone: which backbone of a model that holds several, by name or itself; it alone is set.
        prefix: where a checkpoint holds the network several times, the beginning of the names that are meant, or a
            part of it, e.g. ``"teacher"``. Wrappers, prefixes, and what else is in a checkpoint are found without it.

    Raises:
        TypeError: ``target`` holds no backbone.
        ValueError: timm has no such family.
        WeightsMismatchError: the two do not fit; ``target`` keeps its weights.

    Example:
        >>> backbone = create_backbone("resnet50d")
        >>> weights.from_timm(backbone, timm.create_model("resnet50d", pretrained=True).state_dict())

    Source: Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models
    """
    _from_torch("timm", find_target(target, backbone), state_dict, skip_mismatch, prefix)


def from_torchvision(
    target: Any,
    state_dict: Mapping[str, Any],
    *,
    skip_mismatch: bool = False,
    backbone: str | Backbone | None = None,
    prefix: str | None = None,
) -> None:
    """Sets weights from the ``state_dict`` of torchvision's model of the same architecture.

    Args:
        target: a backbone or a classifier round one, as in :func:`from_timm`.
        state_dict: name -> array.
        skip_mismatch: loads what fits and warns, naming the rest.
        backbone: which backbone of a model that holds several, by name or itself; it alone is set.
        prefix: where a checkpoint holds the network several times, the beginning of the names that are meant, or a
            part of it, e.g. ``"teacher"``. Wrappers, prefixes, and what else is in a checkpoint are found without it.

    Raises:
        TypeError: ``target`` holds no backbone.
        ValueError: torchvision has no such family.
        WeightsMismatchError: the two do not fit; ``target`` keeps its weights.

    Example:
        >>> backbone = create_backbone("resnet50")
        >>> weights.from_torchvision(backbone, torchvision.models.resnet50(weights="DEFAULT").state_dict())
    """
    _from_torch("torchvision", find_target(target, backbone), state_dict, skip_mismatch, prefix)


def _from_torch(source: str, target: Target, state_dict: Any, skip_mismatch: bool, prefix: str | None) -> None:
    where = f"the {source} state_dict"
    load_arrays(target, source, state_dict, where=where, skip_mismatch=skip_mismatch, prefix=prefix)
    warn_of_pixels(target, None, where)


def from_keras_applications(
    target: Any, model: Any, *, skip_mismatch: bool = False, backbone: str | Backbone | None = None
) -> None:
    """Sets weights from a model of ``keras.applications``.

    Their v1 ResNets have biases in their convolutions. ``keras_resnet50`` has them too; a backbone without them
    (``resnet50`` with their strides and epsilon) takes them in the moving mean, which gives the same outputs.

    Args:
        target: a backbone with their strides, padding and epsilon, e.g. ``create_backbone("keras_resnet50")``, or a
            classifier round one, as in :func:`from_timm`.
        model: the Keras model; without its classifier (``include_top=False``) unless ``target`` is one.
        skip_mismatch: loads what fits and warns, naming the rest; strides and epsilons must agree all the same.
        backbone: which backbone of a model that holds several, by name or itself; it alone is set.

    Raises:
        TypeError: ``target`` holds no backbone.
        ValueError: their names for such a family are not known.
        WeightsMismatchError: shapes, strides or epsilons differ; ``target`` keeps its weights.

    Example:
        >>> backbone = create_backbone("keras_resnet50")
        >>> weights.from_keras_applications(backbone, keras.applications.ResNet50(weights="imagenet"))
    """
    found = find_target(target, backbone)
    from_keras_model(found, "keras_applications", model, skip_mismatch)
    warn_of_pixels(found, None, repr(model.name))


def from_keras_hub(
    target: Any, model: Any, *, skip_mismatch: bool = False, backbone: str | Backbone | None = None
) -> None:
    """Sets weights from a KerasHub backbone or image classifier.

    Args:
        target: a backbone or a classifier round one, as in :func:`from_timm`.
        model: e.g. ``keras_hub.models.ResNetBackbone`` or ``ResNetImageClassifier``, also under tf_keras.
        skip_mismatch: loads what fits and warns, naming the rest; strides and epsilons must agree all the same.
        backbone: which backbone of a model that holds several, by name or itself; it alone is set.

    Raises:
        TypeError: ``target`` holds no backbone.
        ValueError: their names for such a family are not known.
        WeightsMismatchError: shapes, strides or epsilons differ; ``target`` keeps its weights.

    Example:
        >>> backbone = create_backbone("resnet50")
        >>> weights.from_keras_hub(backbone, keras_hub.models.Backbone.from_preset("resnet_50_imagenet"))
    """
    found = find_target(target, backbone)
    from_keras_model(found, "keras_hub", model, skip_mismatch)
    warn_of_pixels(found, None, repr(model.name))


def arrays_of(model: Any) -> dict[str, np.ndarray]:
    """``"layer.weight"`` -> array, of a model of either Keras."""
    return {slot.name: slot.value for slot in slots_of(model)}


def from_keras_model(target: Target, source: str, model: Any, skip_mismatch: bool = False) -> None:
    """Sets weights from a Keras model whose layers have the names of ``source``."""
    _check_hyperparameters(target, source, model)
    where = f"{model.name!r} of {source.replace('keras_hub', 'KerasHub').replace('_', '.')}"
    load_arrays(target, source, arrays_of(model), where=where, skip_mismatch=skip_mismatch)


def _check_hyperparameters(target: Target, source: str, model: Any) -> None:
    """What shapes do not show: strides and epsilons. A dilated backbone strides less, and may."""
    backbone, spec = target.backbone, target.backbone.spec
    name_of, _ = find_names(source, spec)
    theirs = named_layers(model)
    attributes = ("epsilon",) if spec is not None and spec.output_stride < 32 else ("epsilon", "strides")
    wrong = []
    for name, layer in named_layers(backbone).items():
        other = theirs.get(name_of(name, spec))
        if other is None:
            continue
        for attribute in attributes:
            mine, value = getattr(layer, attribute, None), getattr(other, attribute, None)
            if mine != value:
                wrong.append(f"{name} has {attribute} {mine}, {other.name} has {value}")
    if wrong:
        more = f"\n    ... and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise WeightsMismatchError(
            f"backbone {backbone.name!r} computes something else than {model.name!r}, so its weights would give other "
            "features. keras.applications' own ResNets are keras_resnet50, keras_resnet50v2 ... in the catalogue; else "
            "create the backbone with stride_in_1x1 and bn_epsilon as they are there.\n"
            f"  {len(wrong)} differences:\n    " + "\n    ".join(wrong[:10]) + more
        )
