"""Switches every quantizer of a model on and off by a variable, so that a traced function obeys at once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.quantization import context
from resnet_backbones.quantization.hooks import hooks_of, layers_and_operations
from resnet_backbones.quantization.model import drop_traced_functions


@dataclass(frozen=True)
class RoundingSource:
    """One thing that rounds: the range of an activation, or the kernels of a layer.

    Attributes:
        layer: the layer it belongs to.
        call: which call of the layer, from 0; ``None`` for kernels, which all calls share.
        port: where the range is applied; ``"kernel"`` for kernels.
    """

    layer: Any
    call: int | None
    port: str


class Switches:
    """A switch for everything in a model that rounds; all are on at first.

    Args:
        model: a quantized model.

    Attributes:
        sources: everything that rounds, in the model's order.
        rounds: for the context, id of a quantizer -> its switch.
    """

    def __init__(self, model: Any) -> None:
        self.sources: list[RoundingSource] = []
        quantizers: list[tuple[Any, int]] = []
        for hook in hooks_of(model):
            for (index, port), quantizer in hook.owned_quantizers().items():
                quantizers.append((quantizer, len(self.sources)))
                self.sources.append(RoundingSource(hook.layer, index, port))
            if hook.kernels:
                quantizers += [(quantize, len(self.sources)) for _, quantize in hook.kernels.values()]
                self.sources.append(RoundingSource(hook.layer, None, "kernel"))
        self._on = tf.Variable(np.ones(len(self.sources), bool), trainable=False)
        self.rounds = {id(quantizer): functools.partial(self._is_on, number) for quantizer, number in quantizers}

    def only(self, sources: Iterable[RoundingSource]) -> None:
        """Switches these on, and all others off."""
        chosen = set(sources)
        self._on.assign([source in chosen for source in self.sources])

    def _is_on(self, number: int) -> Any:
        return self._on[number]


@contextlib.contextmanager
def switching(model: Any) -> Iterator[Switches]:
    """Within it, only the chosen quantizers of a model round; the others pass on what they are given.

    Functions that Keras traced before are dropped on entering and leaving; between, one trace serves all choices.

    Args:
        model: a quantized model.

    Example:
        >>> with switching(model) as switches:
        ...     switches.only(switches.sources[:1])
        ...     model.predict(images)
    """
    switches = Switches(model)
    try:
        _drop_traced(model)
        with context.using(rounds=switches.rounds):  # biases are not rounded: next to nothing at any output
            yield switches
    finally:
        _drop_traced(model)


def _drop_traced(model: Any) -> None:
    for layer in layers_and_operations(model):
        drop_traced_functions(layer)
