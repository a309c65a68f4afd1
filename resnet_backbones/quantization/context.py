"""What a quantized layer should do right now, and which call of a shared layer this is.

The state is per thread and only read while Python runs a model's ``call``: eagerly, or while a ``tf.function``
is traced. A traced function keeps the mode it was traced in; Keras' own steps are traced again (``traced_steps``).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tensorflow as tf

from resnet_backbones.quantization.traced_steps import apart

QUANTIZE = "quantize"  # fake-quantize; in training mode also observe ranges
FLOAT = "float"  # as if never quantized
CALIBRATE = "calibrate"  # run in float, record what every range sees
EXPORT = "export"  # fake-quantize with ranges as constants, in the forms that LiteRT's converter recognises
EXPORT_PLAIN = "export plain"  # the same in the layers' own forms, with kernels that are given from outside
EXPORTS = (EXPORT, EXPORT_PLAIN)


@dataclass(frozen=True)
class Context:
    """What holds for the quantized layers that a thread calls.

    Attributes:
        mode: one of the constants above.
        view: whose file the quantized graph stands for: ``"litert"`` or ``"tensorrt"``.
        training: whether the outermost quantized model trains; ``None`` if it was not told.
        calls: id of a layer -> its calls in this pass; ``None`` outside of a pass.
        results: (id of a quantizer, id of a tensor) -> the tensor, and it quantized.
        records: in mode ``CALIBRATE``, what quantizers are given: (quantizer, tensor), in order of call.
        given_kernels: in mode ``EXPORT_PLAIN``, id of a kernel quantizer -> the tensor that stands for its result.
        nudge: (values, size of a step, number of steps) -> the values to round.
        around: id of a layer -> what a call of it does in place of its ``call`` (``interception.py``).
        own: id of a quantized layer -> what it computes within its ranges in place of its own call.
        kernels: id of a variable -> the array that a kernel is read off in its place.
        rounds: id of a quantizer -> a boolean tensor, whether it rounds; ``None``: all do.
    """

    mode: str = QUANTIZE
    view: str = "litert"
    training: bool | None = None
    calls: dict[int, int] | None = None
    results: dict[tuple[int, int], tuple[Any, Any]] = field(default_factory=dict)
    records: list[tuple[Any, Any]] | None = None
    given_kernels: Mapping[int, Any] = field(default_factory=dict)
    nudge: Callable[[Any, Any, int], Any] | None = None
    around: Mapping[int, Callable[..., Any]] = field(default_factory=dict)
    own: Mapping[int, Callable[..., Any]] = field(default_factory=dict)
    kernels: Mapping[int, Any] = field(default_factory=dict)
    rounds: Mapping[int, Callable[[], Any]] | None = None


class _Thread(threading.local):
    now = Context()


_thread = _Thread()


def now() -> Context:
    """What holds in this thread."""
    return _thread.now


@contextlib.contextmanager
def using(**changes: Any) -> Iterator[None]:
    """Within it, in this thread, fields of the :class:`Context` have other values."""
    before = _thread.now
    try:
        _thread.now = replace(before, **changes)
        yield
    finally:
        _thread.now = before


def mode() -> str:
    """The running mode: one of the constants above."""
    return _thread.now.mode


@contextlib.contextmanager
def use_mode(new_mode: str) -> Iterator[None]:
    """Within it, quantized layers of this thread work in another mode, in ``predict``, ``evaluate`` and ``fit`` too."""
    with _apart_from(mode() == new_mode), using(mode=new_mode):
        yield


def view() -> str:
    """Whose file the quantized graph stands for: ``"litert"`` or ``"tensorrt"``."""
    return now().view


@contextlib.contextmanager
def use_view(new_view: str) -> Iterator[None]:
    """Within it, ranges that the target's file does without are the identity (scheme ``portable_int8``).

    Args:
        new_view: ``"litert"`` (all ranges) or ``"tensorrt"``.

    Raises:
        ValueError: another name.
    """
    if new_view not in ("litert", "tensorrt"):
        raise ValueError(f"A view is 'litert' or 'tensorrt', got {new_view!r}.")
    with _apart_from(view() == new_view), using(view=new_view):
        yield


def _apart_from(same: bool) -> contextlib.AbstractContextManager[None]:
    """What was traced in one mode or view stays apart from what is traced in another."""
    return contextlib.nullcontext() if same else apart()


def rounds_biases() -> bool:
    """Whether biases are rounded as LiteRT's kernels hold them."""
    return mode() == QUANTIZE and view() == "litert" and now().rounds is None


@contextlib.contextmanager
def one_pass(training: Any = None) -> Iterator[None]:
    """One forward pass of the outermost quantized model: calls of shared layers are numbered from zero.

    Args:
        training: what the model was called with.
    """
    if now().calls is not None:  # a quantized model inside a quantized model: the outer one counts
        yield
        return
    known = bool(training) if isinstance(training, (bool, int)) else now().training
    with using(calls={}, results={}, training=known):
        yield


def train_step() -> contextlib.AbstractContextManager[None]:
    """Within it, a quantized model trains, unless it is called with ``training=False``."""
    return using(training=True)


def trains(training: Any) -> Any:
    """Whether the running pass trains the model, for which ranges follow the data.

    A frozen part of it may be called in inference: its ranges are found in training all the same.

    Args:
        training: what to take where the model was not told.
    """
    known = now().training
    return training if known is None else known


def call_index(layer: Any, call_sites: int) -> int:
    """Which of its ``call_sites`` calls this is for ``layer`` in the running pass (0 outside of one)."""
    calls = now().calls
    if call_sites == 1 or calls is None:
        return 0
    index = calls.get(id(layer), 0)
    calls[id(layer)] = index + 1
    return index % call_sites


def quantized_once(quantizer: Any, tensor: Any) -> Any:
    """``quantizer(tensor)``, computed once a pass for a tensor that several layers read."""
    results = now().results
    if now().calls is None:
        return quantizer(tensor)
    key = id(quantizer), id(tensor)
    if key not in results:
        results[key] = tensor, quantizer(tensor)  # keeping the tensor keeps its id from being reused
    return results[key][1]


def record(quantizer: Any, tensor: Any) -> None:
    """Adds to the running records, if there are any."""
    records = now().records
    if records is not None:
        records.append((quantizer, tensor))


def nudged(values: Any, low: Any, high: Any, steps: int) -> Any:
    """The values that are about to be rounded in a range of so many steps, moved as the context says."""
    nudge = now().nudge
    return values if nudge is None else nudge(values, (high - low) / steps, steps)


def rounded_if_chosen(quantizer: Any, rounded: Callable[[], Any], values: Any) -> Any:
    """What a quantizer makes of values; the values where the context says that it does not round.

    Args:
        quantizer: of an activation or of a kernel.
        rounded: function of nothing that gives the values rounded.
        values: a tensor or a variable.
    """
    rounds = now().rounds
    if rounds is None or id(quantizer) not in rounds:
        return rounded()
    return tf.cond(rounds[id(quantizer)](), rounded, lambda: tf.identity(tf.convert_to_tensor(values)))
