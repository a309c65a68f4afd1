"""Arrays by some library's names, into a backbone: names, axis order, values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from resnet_backbones.weights.names import CLASSIFIER, TORCH_SOURCES, find_names, sources_of
from resnet_backbones.weights.targets import Slot, Target
from resnet_backbones.weights.transfer import transfer

OWN = "resnet_backbones"

_TORCH_WEIGHTS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Where training scripts put the weights in the file, the averaged ones first, as timm looks for them.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.", "model.")


def load_arrays(
    target: Target, source: str, arrays: Mapping[str, Any], *, where: str, skip_mismatch: bool = False
) -> None:
    """Sets the weights of ``target`` from arrays by the names and in the axis order of ``source``.

    Args:
        target: the backbone, or classifier.
        source: ``OWN`` or one of ``names.SOURCES``.
        arrays: name -> array.
        where: what ``arrays`` is, for errors.
        skip_mismatch: sets what fits and warns of the rest.

    Raises:
        ValueError: the source's names for this family are not known.
        WeightsMismatchError: something does not fit; nothing was set.
    """
    key_of, prepare = _scheme(target, source)
    arrays = prepare(arrays)
    if target.head is None:  # a classifier is not ours then
        prefix = key_of(Slot(CLASSIFIER, "bias", "Dense", None)).removesuffix("bias")
        arrays = {key: value for key, value in arrays.items() if not key.startswith(prefix)}
    convert = from_torch_order if source in TORCH_SOURCES else from_keras_order
    transfer(target, arrays, key_of, convert, where=where, skip_mismatch=skip_mismatch)


def recognise(target: Target, arrays: Mapping[str, Any]) -> str:
    """The source whose names ``arrays`` has most of; ``OWN`` if it has none of any."""

    def hits(source: str) -> int:
        key_of, prepare = _scheme(target, source)
        found = prepare(arrays)
        return sum(key_of(slot) in found for slot in target.slots())

    return max([OWN, *sources_of(target.backbone.spec)], key=hits)


def _scheme(target: Target, source: str) -> tuple[Callable[[Slot], str], Callable[[Mapping[str, Any]], Any]]:
    """Names of our weights in ``source``, and what is done to its arrays first."""
    if source == OWN:
        return lambda slot: slot.name, lambda arrays: arrays
    spec = target.backbone.spec
    layer_name, prepare = find_names(source, spec)
    if source in TORCH_SOURCES:
        return (
            lambda slot: f"{layer_name(slot.layer, spec)}.{_TORCH_WEIGHTS.get(slot.weight, slot.weight)}",
            lambda arrays: prepare(unwrapped(arrays), spec),
        )
    return lambda slot: f"{layer_name(slot.layer, spec)}.{slot.weight}", lambda arrays: prepare(arrays, spec)


def unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state_dict in a checkpoint, without prefixes that all its names have and without torch's batch counters."""
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
            break
    for prefix in _PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


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
