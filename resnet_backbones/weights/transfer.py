"""Setting weights from named arrays: all of them or none, unless told to take what fits."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from resnet_backbones.errors import WeightsMismatchError
from resnet_backbones.weights.readers import Array
from resnet_backbones.weights.targets import Slot, Target

_LISTED = 10
_MOST_CHANNELS = 1024  # of an image; more would only be claimed


def transfer(
    target: Target,
    arrays: Mapping[str, Any],
    key_of: Callable[[Slot], str],
    convert: Callable[[Slot, np.ndarray], np.ndarray],
    *,
    where: str,
    hint: str = "",
    skip_mismatch: bool = False,
) -> None:
    """Sets every weight of ``target`` from ``arrays``, after checking that all of them fit.

    Args:
        target: the backbone, or classifier.
        arrays: name -> array, in the source's axis order.
        key_of: the name in ``arrays`` of one of our weights.
        convert: a source's array in our axis order; one it cannot convert it returns as it is.
        where: what ``arrays`` is, for errors.
        hint: a sentence on ``arrays``, for errors.
        skip_mismatch: sets what fits and warns of the rest.

    Raises:
        WeightsMismatchError: something is missing, unexpected or of another shape; nothing was set.
    """
    plan: list[tuple[Slot, str, Array]] = []
    problems = Problems(target, where, hint)
    used = set()
    stem = target.stem()
    for slot in target.slots():
        key = key_of(slot)
        used.add(key)
        label = key if key == slot.name else f"{key} (for {slot.name})"
        if key not in arrays:
            problems.found["missing"].append(label)
            continue
        array = Array.of(arrays[key])
        shape = converted_shape(convert, slot, array.shape)
        is_stem = stem is not None and slot.variable is stem.variable
        if problems.fits(label, array, shape, slot.shape, floats=_is_float(slot.variable), adaptable=is_stem):
            plan.append((slot, label, array))
    problems.found["unexpected"] = [key for key in arrays if key not in used]
    problems.report(skip=skip_mismatch and bool(plan), warns=False)  # before anything is read
    values = []
    for slot, label, array in plan:
        value = convert(slot, array.values())
        if array.is_float and not np.isfinite(value).all():
            problems.found["with NaN or infinity"].append(label)
            continue
        values.append((slot.variable, adapt_input_channels(value, slot.shape)))
    problems.report(skip=skip_mismatch and bool(values))
    for variable, value in values:
        variable.assign(value)


def converted_shape(convert: Callable[[Slot, np.ndarray], np.ndarray], slot: Slot, shape: tuple[int, ...]) -> Any:
    """The shape in our axis order, found on an array that takes no memory."""
    try:
        return convert(slot, np.broadcast_to(np.float32(0), shape)).shape
    except ValueError:  # more values than can be counted
        return shape


def _is_float(variable: Any) -> bool:
    return Array(variable.shape, getattr(variable.dtype, "name", variable.dtype), lambda: np.zeros(())).is_float


class Problems:
    """What of some weights does not fit, collected to be reported at once.

    Args:
        target: what the weights are for.
        where: what they are.
        hint: a sentence on them.
    """

    def __init__(self, target: Target, where: str, hint: str = "") -> None:
        self._target, self._where, self._hint = target, where, hint
        kinds = ("missing", "unexpected", "of another shape", "of another type", "with NaN or infinity")
        self.found: dict[str, list[str]] = {kind: [] for kind in kinds}

    def fits(self, label: str, array: Array, shape: Any, wanted: Any, *, floats: bool, adaptable: bool) -> bool:
        """Whether an array, of ``shape`` in our axis order, can take a place; if not, why is noted."""
        if shape != wanted and not (adaptable and adapts(shape, wanted)):
            self.found["of another shape"].append(f"{label}: {shape}, not {wanted}")
        elif array.is_float != floats:
            self.found["of another type"].append(f"{label}: {array.dtype}, not {'floats' if floats else 'integers'}")
        else:
            return True
        return False

    def report(self, *, skip: bool, warns: bool = True) -> None:
        """One error, or with ``skip`` one warning, that lists them all; nothing if there are none."""
        lists = []
        for title, items in self.found.items():
            if items:
                more = f"\n    ... and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
                lists.append(f"  {len(items)} {title}:\n    " + "\n    ".join(items[:_LISTED]) + more)
        what = "backbone" if self._target.is_backbone else "model"
        name = self._target.model.name
        if not lists or (skip and not warns):
            return
        if skip:
            warn("\n".join([f"{self._where} fits {what} {name!r} in part. Skipped (skip_mismatch=True):", *lists]))
            return
        hint = "Create the backbone by the name, overrides and input channels that the weights were made for"
        if self._target.head is not None:
            hint += "; for a classifier of other classes pass its backbone alone"
        raise WeightsMismatchError(
            "\n".join(
                [
                    f"{self._where} does not fit {what} {name!r}, which keeps the weights it had.",
                    *lists,
                    *([self._hint] if self._hint else []),
                    f"{hint}. skip_mismatch=True loads what fits.",
                ]
            )
        )


def warn_of_others(target: Target, where: str) -> None:
    """Names what a model has besides the backbone (and classifier) that just got their weights."""
    others = [] if target.is_backbone or target.complete else target.others()
    if others:
        warn(
            f"{where} went into backbone {target.backbone.name!r} of {target.model.name!r}; the model's other layers "
            f"with weights keep those they had: {', '.join(others)}. If that is meant, pass the backbone itself."
        )


def warn_of_pixels(target: Target, pixels: Any, where: str, *, warns: bool = True) -> None:
    """Says if the weights a backbone just got want other images than it was built to take.

    Args:
        target: what got the weights.
        pixels: how they want their images; ``None`` where nothing says so.
        where: what they are.
        warns: whether to warn; that it is in doubt is noted on the backbone in any case, and then not saved as known.
    """
    spec, own = target.backbone.spec, f"backbone {target.backbone.name!r}"
    if spec is None or target.backbone.pixels == "chosen":
        return
    if pixels is None and spec.preprocessing is None:
        found = f"nothing says how the weights in {where} want their images, so {own} takes them as they are."
    elif pixels is not None and pixels.preprocessing != spec.preprocessing:
        does = "takes images as they are" if spec.preprocessing is None else "normalises otherwise"
        found = f"the weights in {where} want images of 0 to 255 with preprocessing={pixels.name}; {own} {does}."
    else:
        target.backbone.pixels = None
        return
    target.backbone.pixels = "in doubt"
    if warns:
        wanted = "'imagenet' or another" if pixels is None else pixels.name
        warn(
            f"{found} create_backbone(..., preprocessing={wanted}) makes one that normalises images of 0 to 255 "
            "itself; preprocessing=None says that they come as the weights want them."
        )


def warn(text: str) -> None:
    """A warning that names the line of whoever called this library."""
    warnings.warn(text, stacklevel=_frames_of_ours())


def _frames_of_ours() -> int:
    """How many calls lie between a warning and whoever called this library."""
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("resnet_backbones"):
        frame, count = frame.f_back, count + 1
    return count


def adapt_input_channels(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The stem's kernel for another number of input channels, as timm has it; unchanged where it cannot be.

    One channel gets the sum over the old ones: a grey image gives what it gave as three equal channels. More take
    the three in turn, scaled by 3 / channels, so that sums keep their size.

    Args:
        kernel: (height, width, input channels, filters).
        shape: the shape wanted.
    """
    if kernel.shape == shape or not adapts(kernel.shape, shape):
        return kernel
    channels = shape[2]
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % 3] * np.float32(3 / channels)


def adapts(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether :func:`adapt_input_channels` makes a kernel of one shape one of the other."""
    if len(shape) != 4 or len(wanted) != 4 or (*shape[:2], shape[3]) != (*wanted[:2], wanted[3]):
        return False
    return shape[2] in (3, wanted[2]) or (wanted[2] == 1 and shape[2] <= _MOST_CHANNELS)
