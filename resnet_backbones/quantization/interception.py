"""Looking into calls of layers, and computing something else in their place, without other threads noticing.

While some thread looks into a layer, its ``call`` asks that thread's context what to do; in other threads, and where
the context says nothing, it does what it did before. A call that takes other weights than the layer's is made on a
stand-in that shares all else with the layer, whose attributes never change.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from resnet_backbones.quantization import context

_lock = threading.Lock()


class _Intercepted:
    """Takes the place of a layer's ``call`` while a thread looks into it."""

    def __init__(self, layer: Any) -> None:
        self.before = layer.__dict__.get("call")
        self.call, self.key, self.lookers = layer.call, id(layer), 0

    @tf.autograph.experimental.do_not_convert
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return context.now().around.get(self.key, self.call)(*args, **kwargs)


@contextlib.contextmanager
def intercepted(layers: Iterable[Any], make: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Within it, in this thread, each layer's ``call`` is ``make(layer, its call)``.

    Args:
        layers: layers or bare operations of functional models; of one that comes twice, the first call is inside.
        make: gives what to call.
    """
    found: list[tuple[Any, _Intercepted]] = []
    try:
        around = dict(context.now().around)
        for layer in layers:
            with _lock:
                present = layer.__dict__.get("call")
                one = present if isinstance(present, _Intercepted) else _Intercepted(layer)
                found.append((layer, one))
                one.lookers += 1
                layer.__dict__["call"] = one
            around[one.key] = make(layer, around.get(one.key, one.call))
        with context.using(around=around):
            yield
    finally:
        for layer, one in reversed(found):
            with _lock:
                one.lookers -= 1
                if one.lookers > 0:
                    continue
                if one.before is None:
                    layer.__dict__.pop("call", None)
                else:
                    layer.__dict__["call"] = one.before


def noting(note: Callable[[Any, int, Any], None]) -> Callable[[Any, Any], Any]:
    """For :func:`intercepted`: calls that are counted, and whose results are noted.

    Args:
        note: takes the layer, which call of it this is, 0 for the first, and what the call returned.
    """
    counts: dict[int, int] = {}

    def make(layer, call):
        @tf.autograph.experimental.do_not_convert
        def noted(*args, **kwargs):
            index = counts[id(layer)] = counts.get(id(layer), -1) + 1
            outputs = call(*args, **kwargs)
            note(layer, index, outputs)
            return outputs

        return noted

    return make


def call_now(layer: Any) -> Any:
    """What a call of the layer does in this thread as it is now, whatever is put around it afterwards."""
    present = layer.call
    return context.now().around.get(present.key, present.call) if isinstance(present, _Intercepted) else present


def of_any(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's call as a function of a layer: of a stand-in, it takes its attributes.

    Args:
        layer: the layer.
        call: its method, or a function that somebody put in its place.
    """
    if isinstance(call, functools.partial) and call.args == (layer,):
        return call.func
    if getattr(call, "__self__", None) is layer:
        return call.__func__  # type: ignore[attr-defined]
    return lambda _, *args, **kwargs: call(*args, **kwargs)


def standing_in(layer: Any, attributes: Mapping[str, Any]) -> Any:
    """A stand-in for a layer: the same but for some attributes, for one call.

    Args:
        layer: the layer, or a stand-in.
        attributes: name -> value.
    """
    double = object.__new__(type(layer))
    double.__dict__.update(layer.__dict__)
    double.__dict__.update(attributes)
    return double


def called_with(
    layer: Any, attributes: Mapping[str, Any], call: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Calls a function of a layer on it, or on a stand-in with other attributes.

    Args:
        layer: the layer.
        attributes: name -> value; the layer itself keeps its own.
        call: as :func:`of_any` gives it.
        *args: of the call.
        **kwargs: of the call.
    """
    if not attributes:
        return call(layer, *args, **kwargs)
    double = standing_in(layer, attributes)
    before = dict(double.__dict__)
    outputs = call(double, *args, **kwargs)
    for name, value in double.__dict__.items():  # what the call noted on itself, such as a state
        if name not in attributes and before.get(name, before) is not value:
            layer.__dict__[name] = value
    return outputs
