"""What a quantized layer should do right now, and which call of a shared layer this is.

The state is per thread and only read while Python runs a model's ``call``: eagerly, or while a ``tf.function``
is traced. A traced function keeps the mode it was traced in; Keras' own steps are traced again (``traced_steps``).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from resnet_backbones.quantization.traced_steps import apart

QUANTIZE = "quantize"  # fake-quantize; in training mode also observe ranges
FLOAT = "float"  # as if never quantized
CALIBRATE = "calibrate"  # run in float, record what every range sees
EXPORT = "export"  # fake-quantize with ranges as constants, in the forms that LiteRT's converter recognises
EXPORT_PLAIN = "export plain"  # the same in the layers' own forms, with kernels that are given from outside
EXPORTS = (EXPORT, EXPORT_PLAIN)


class _State(threading.local):
    def __init__(self) -> None:
        self.mode = QUANTIZE
        self.view = "litert"
        self.calls: dict[int, int] | None = None  # id(layer) -> calls seen in this pass
        self.training: bool | None = None  # whether the outermost quantized model trains, if it was told
        self.results: dict[tuple[int, int], tuple[Any, Any]] = {}  # (id(quantizer), id(tensor)) -> (tensor, quantized)
        self.records: list[tuple[Any, Any]] | None = None  # (quantizer, tensor), in order of call
        self.kernels: dict[int, Any] = {}  # id(kernel quantizer) -> the tensor that stands for its result
        self.nudge: Callable[[Any, Any, int], Any] | None = None  # (values, size of a step, steps) -> values to round


_state = _State()


def mode() -> str:
    """The running mode: one of the constants above."""
    return _state.mode


@contextlib.contextmanager
def use_mode(new_mode: str) -> Iterator[None]:
    """Within it, quantized layers of this thread work in another mode, in ``predict``, ``evaluate`` and ``fit`` too."""
    with _switched("mode", new_mode):
        yield


def view() -> str:
    """Whose file the quantized graph stands for: ``"litert"`` or ``"tensorrt"``."""
    return _state.view


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
    with _switched("view", new_view):
        yield


@contextlib.contextmanager
def _switched(name: str, value: str) -> Iterator[None]:
    """Within it, the mode or the view is another one, and what was traced under this one stays apart."""
    previous = getattr(_state, name)
    with apart() if value != previous else contextlib.nullcontext():
        setattr(_state, name, value)
        try:
            yield
        finally:
            setattr(_state, name, previous)


def rounds_biases() -> bool:
    """Whether biases are rounded as LiteRT's kernels hold them."""
    return _state.mode == QUANTIZE and _state.view == "litert"


@contextlib.contextmanager
def one_pass(training: Any = None) -> Iterator[None]:
    """One forward pass of the outermost quantized model: calls of shared layers are numbered from zero.

    Args:
        training: what the model was called with.
    """
    if _state.calls is not None:  # a quantized model inside a quantized model: the outer one counts
        yield
        return
    known = bool(training) if isinstance(training, (bool, int)) else _state.training
    try:
        _state.calls, _state.results = {}, {}
        with _training(known):
            yield
    finally:
        _state.calls, _state.results = None, {}


def train_step() -> contextlib.AbstractContextManager[None]:
    """Within it, a quantized model trains, unless it is called with ``training=False``."""
    return _training(True)


@contextlib.contextmanager
def _training(training: bool | None) -> Iterator[None]:
    previous = _state.training
    try:
        _state.training = training
        yield
    finally:
        _state.training = previous


def trains(training: Any) -> Any:
    """Whether the running pass trains the model, for which ranges follow the data.

    A frozen part of it may be called in inference: its ranges are found in training all the same.

    Args:
        training: what to take where the model was not told.
    """
    return training if _state.training is None else _state.training


def call_index(layer: Any, call_sites: int) -> int:
    """Which of its ``call_sites`` calls this is for ``layer`` in the running pass (0 outside of one)."""
    if call_sites == 1 or _state.calls is None:
        return 0
    index = _state.calls.get(id(layer), 0)
    _state.calls[id(layer)] = index + 1
    return index % call_sites


def quantized_once(quantizer: Any, tensor: Any) -> Any:
    """``quantizer(tensor)``, computed once a pass for a tensor that several layers read."""
    if _state.calls is None:
        return quantizer(tensor)
    key = id(quantizer), id(tensor)
    if key not in _state.results:
        _state.results[key] = tensor, quantizer(tensor)  # keeping the tensor keeps its id from being reused
    return _state.results[key][1]


@contextlib.contextmanager
def recording() -> Iterator[list[tuple[Any, Any]]]:
    """Within it, in mode ``CALIBRATE``, every quantizer adds (itself, the tensor it was given) to the list yielded."""
    previous, _state.records = _state.records, []
    try:
        yield _state.records
    finally:
        _state.records = previous


def record(quantizer: Any, tensor: Any) -> None:
    """Adds to the running :func:`recording`, if there is one."""
    if _state.records is not None:
        _state.records.append((quantizer, tensor))


@contextlib.contextmanager
def given_kernels(kernels: dict[int, Any]) -> Iterator[None]:
    """Within it, in mode ``EXPORT_PLAIN``, quantized kernels are these tensors.

    Args:
        kernels: id of a kernel quantizer -> tensor of the kernel's shape.
    """
    previous, _state.kernels = _state.kernels, kernels
    try:
        yield
    finally:
        _state.kernels = previous


def given_kernel(quantizer: Any) -> Any:
    """The tensor that stands for what ``quantizer`` makes of its kernel, within :func:`given_kernels`."""
    return _state.kernels[id(quantizer)]


@contextlib.contextmanager
def use_nudge(nudge: Callable[[Any, Any, int], Any]) -> Iterator[None]:
    """Within it, activations are moved before they are rounded.

    Args:
        nudge: takes values, the size of their quantization step and how many there are; gives what is rounded instead.
    """
    previous, _state.nudge = _state.nudge, nudge
    try:
        yield
    finally:
        _state.nudge = previous


def nudged(values: Any, low: Any, high: Any, steps: int) -> Any:
    """What :func:`use_nudge` makes of the values that are about to be rounded in a range of so many steps."""
    return values if _state.nudge is None else _state.nudge(values, (high - low) / steps, steps)
