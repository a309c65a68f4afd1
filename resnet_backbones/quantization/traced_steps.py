"""Steps of ``fit``, ``evaluate`` and ``predict`` that were traced in one mode and view do not run in another.

Keras keeps its traced step functions, and a traced function keeps the mode and view it was traced in
(``quantization/context.py``). So a model whose steps call quantized layers is remembered while it is traced, be it the
quantized model or a float one around it; while another mode or view holds, it has step functions of their own.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from resnet_backbones.keras_compat import keras

_STEPS = {f"{step}_step": f"{step}_function" for step in ("train", "test", "predict")}
_models: weakref.WeakSet[Any] = weakref.WeakSet()


def note_traced_step() -> None:
    """Remembers the model whose step is being traced around the caller, if there is one."""
    if tf.executing_eagerly():
        return
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name.removeprefix("tf__") in _STEPS:  # the prefix is autograph's
            model = frame.f_locals.get("self")
            if isinstance(model, keras.Model):
                _models.add(model)
        frame = frame.f_back  # type: ignore[assignment]


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Within it, steps traced before are traced again; after it, those traced before are there again."""
    if not tf.executing_eagerly():  # no step runs while a function is traced
        yield
        return
    before = _forgotten()
    try:
        yield
    finally:
        _forgotten()
        for model, functions in before:
            for name, function in functions.items():
                setattr(model, name, function)


def _forgotten() -> list[tuple[Any, dict[str, Any]]]:
    """Gives every remembered model step functions that are not traced yet; returns those it had."""
    had = []
    for model in list(_models):
        functions = {name: getattr(model, name, None) for name in _STEPS.values()}
        had.append((model, {name: function for name, function in functions.items() if function is not None}))
        for name in had[-1][1]:
            getattr(model, f"make_{name}")(force=True)
    return had
