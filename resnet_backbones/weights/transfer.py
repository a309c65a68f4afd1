"""Setting weights from named arrays: all of them or none, unless told to take what fits."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from resnet_backbones.errors import WeightsMismatchError
from resnet_backbones.weights.targets import Slot, Target

_LISTED = 10


def transfer(
    target: Target,
    arrays: Mapping[str, Any],
    key_of: Callable[[Slot], str],
    convert: Callable[[Slot, np.ndarray], np.ndarray],
    *,
    where: str,
    skip_mismatch: bool = False,
) -> None:
    """Sets every weight of ``target`` from ``arrays``, after checking that all of them fit.

    Args:
        target: the backbone, or classifier.
        arrays: name -> array, in the source's axis order.
        key_of: the name in ``arrays`` of one of our weights.
        convert: a source's array in our axis order; one it cannot convert it returns as it is.
        where: what ``arrays`` is, for errors.
        skip_mismatch: sets what fits and warns of the rest.

    Raises:
        WeightsMismatchError: something is missing, unexpected or of another shape; nothing was set.
    """
    plan: list[tuple[Any, np.ndarray]] = []
    missing, wrong = [], []
    used = set()
    stem = target.stem()
    for slot in target.slots():
        key = key_of(slot)
        used.add(key)
        label = key if key == slot.name else f"{key} (for {slot.name})"
        if key not in arrays:
            missing.append(label)
            continue
        value = convert(slot, as_array(arrays[key]))
        if stem is not None and slot.variable is stem.variable:
            value = adapt_input_channels(value, slot.shape)
        if value.shape != slot.shape:
            wrong.append(f"{label}: {value.shape}, not {slot.shape}")
        else:
            plan.append((slot.variable, value))
    unexpected = [key for key in arrays if key not in used]
    check(target, where, missing, unexpected, wrong, skip_mismatch=skip_mismatch and bool(plan))
    for variable, value in plan:
        variable.assign(value)


def check(
    target: Target, where: str, missing: list[str], unexpected: list[str], wrong: list[str], *, skip_mismatch: bool
) -> None:
    """One error, or with ``skip_mismatch`` one warning, that lists all that does not fit; nothing if all does."""
    if not (missing or unexpected or wrong):
        return
    lists = []
    for title, items in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong)):
        if items:
            more = f"\n    ... and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
            lists.append(f"  {len(items)} {title}:\n    " + "\n    ".join(items[:_LISTED]) + more)
    what = "backbone" if target.model is target.backbone else "model"
    name = target.model.name
    if skip_mismatch:
        text = "\n".join([f"{where} fits {what} {name!r} in part. Skipped (skip_mismatch=True):", *lists])
        warnings.warn(text, stacklevel=_frames_of_ours())
        return
    hint = "Create the backbone by the name, overrides and input channels that the weights were made for"
    if target.head is not None:
        hint += "; for a classifier of other classes pass its backbone alone"
    raise WeightsMismatchError(
        "\n".join(
            [
                f"{where} does not fit {what} {name!r}, which keeps the weights it had.",
                *lists,
                f"{hint}. skip_mismatch=True loads what fits.",
            ]
        )
    )


def _frames_of_ours() -> int:
    """How many calls lie between a warning and whoever called this library."""
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("resnet_backbones"):
        frame, count = frame.f_back, count + 1
    return count


def as_array(value: Any) -> np.ndarray:
    """A numpy array of anything array-like; floats of whatever precision become float32."""
    if hasattr(value, "detach"):  # a torch tensor: numpy knows no bfloat16
        value = value.detach().cpu().float()
    value = np.asarray(value)
    return value if value.dtype.kind in "iub" else value.astype(np.float32, copy=False)


def adapt_input_channels(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The stem's kernel for another number of input channels, as timm has it; unchanged where it cannot be.

    One channel gets the sum over the old ones: a grey image gives what it gave as three equal channels. More take
    the three in turn, scaled by 3 / channels, so that sums keep their size.

    Args:
        kernel: (height, width, input channels, filters).
        shape: the shape wanted.
    """
    if kernel.ndim != 4 or kernel.shape == shape or kernel.shape[:2] + kernel.shape[3:] != shape[:2] + shape[3:]:
        return kernel
    channels = shape[2]
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    if kernel.shape[2] != 3:
        return kernel
    return kernel[:, :, np.arange(channels) % 3] * np.float32(3 / channels)
