"""Switches every quantizer of a model on and off by a variable, so that a traced function obeys at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.quantization.hooks import hooks_of, layers_and_operations
from resnet_backbones.quantization.model import drop_traced_functions


@dataclass(frozen=True)
class Source:
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
    """Within it, only the chosen quantizers of a model round; the others pass on what they are given.

    Functions that Keras traced before are dropped on entering and leaving; between, one trace serves all choices.

    Args:
        model: a quantized model.

    Attributes:
        sources: everything that rounds, in the model's order.

    Example:
        >>> with Switches(model) as switches:
        ...     switches.only(switches.sources[:1])
        ...     model.predict(images)
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._quantizers: list[tuple[int, Any]] = []
        self._kernels: list[tuple[int, Any]] = []
        self.sources: list[Source] = []
        for hook in hooks_of(model):
            for (index, port), quantizer in hook.owned_quantizers().items():
                self._quantizers.append((len(self.sources), quantizer))
                self.sources.append(Source(hook.layer, index, port))
            if hook.kernels:
                self._kernels.append((len(self.sources), hook))
                self.sources.append(Source(hook.layer, None, "kernel"))
        self._kernels_before = [dict(hook.kernels) for _, hook in self._kernels]
        self._biases_before = [(hook, hook.biases) for hook in hooks_of(model)]
        self._on = tf.Variable(np.ones(len(self.sources), bool), trainable=False)

    def only(self, sources: Iterable[Source]) -> None:
        """Switches these on, and all others off."""
        chosen = set(sources)
        self._on.assign([source in chosen for source in self.sources])

    def __enter__(self) -> Switches:
        try:
            self._switch()
        except BaseException:  # an interrupt, too
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for _, quantizer in self._quantizers:
            for name in ("call", "in_steps"):
                quantizer.__dict__.pop(name, None)
        for (_, hook), before in zip(self._kernels, self._kernels_before, strict=True):
            hook.kernels.update(before)
        for hook, biases in self._biases_before:
            hook.biases = biases
        self._drop()

    def _switch(self) -> None:
        for number, quantizer in self._quantizers:
            for name in ("call", "in_steps"):  # what is averaged in the steps of a range is rounded with it
                quantizer.__dict__[name] = self._switched(number, getattr(quantizer, name))
        for number, hook in self._kernels:
            for attribute, (variable, quantize) in hook.kernels.items():
                hook.kernels[attribute] = variable, self._switched(number, quantize)
        for hook, _ in self._biases_before:  # rounded by what others round to; next to nothing at any output
            hook.biases = {}
        self._drop()

    def _switched(self, number: int, quantize: Any) -> Any:
        @tf.autograph.experimental.do_not_convert
        def switched(values, *args, **kwargs):
            given = tf.convert_to_tensor(values)
            return tf.cond(self._on[number], lambda: quantize(given, *args, **kwargs), lambda: tf.identity(given))

        return switched

    def _drop(self) -> None:
        for layer in layers_and_operations(self._model):
            drop_traced_functions(layer)
