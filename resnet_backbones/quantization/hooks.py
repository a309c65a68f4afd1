"""How quantization enters a layer: its ``call`` is wrapped once, in place, on the instance.

The class, the configuration and the weights of the layer stay what they were. Ranges live in tracked child layers,
so that they are saved with the model (Keras 3's convolutions save only kernel and bias of their own).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import add_child, float32_variable
from resnet_backbones.keras_compat.operations import operation_number, operations_of
from resnet_backbones.layers.batch_norm import normalize_with_moving_statistics
from resnet_backbones.quantization import context
from resnet_backbones.quantization.bias_rounding import BiasRounding
from resnet_backbones.quantization.composites import Steps, silu_in_steps
from resnet_backbones.quantization.export_forms import (
    activation_for_export,
    convolution_instead,
    joined_in_range,
    kept_apart,
    mended_attributes,
)
from resnet_backbones.quantization.integer_forms import in_fewer_bits, resized_bilinearly
from resnet_backbones.quantization.interception import call_now, called_with, intercepted, of_any
from resnet_backbones.quantization.placement.selection import layer_labels
from resnet_backbones.quantization.placement.sites import QuantizerSite
from resnet_backbones.quantization.quantizers import ActivationQuantizer, BatchNormFreeze, KernelQuantizer
from resnet_backbones.quantization.rules import activation_name, concatenates, has_one_scale, rule_of
from resnet_backbones.quantization.traced_steps import note_traced_step
from resnet_backbones.schemes import Scheme

_HOOK = "_quantization_hook"


def hook_of(layer: Any) -> LayerHook | None:
    """The layer's hook; ``None`` when it is not quantized."""
    return layer.__dict__.get(_HOOK)


def hook(layer: Any, scheme: Scheme, host: Any = None) -> LayerHook:
    """The layer's hook, made and wrapped round its ``call`` if there is none yet.

    Args:
        layer: a layer, or a bare operation of a functional model.
        scheme: what it is quantized by.
        host: the layer that holds its ranges, if it cannot itself.
    """
    existing = hook_of(layer)
    if existing is None:
        existing = LayerHook(layer, scheme, layer if host is None else host)
        layer.__dict__[_HOOK] = existing
        layer.__dict__["call"] = existing.call  # a method, so that a copied layer calls its own hook
    return existing


def own_call(layer: Any) -> Any:
    """What a layer computes by itself, without its ranges, as a function of the layer and what it is given."""
    found = hook_of(layer)
    return of_any(layer, call_now(layer)) if found is None else found.own_call


class LayerHook:
    """Quantizes what goes into a layer, its kernels and what comes out.

    Attributes:
        quantizers: (call index, port) -> ActivationQuantizer.
        following: those keys of ``quantizers`` whose range is observed at the output of another layer.
        kernels: attribute of the layer -> (variable, KernelQuantizer).
        biases: call index -> how integer kernels round what the layer adds.
        added: call index of a layer with kernels -> how integers round what is added, and the layer that adds it.
        averages: call index -> quantizer of what it reads, in whose steps the layer's integers average; how many
            averages a file for TensorRT rounds one behind the other, this one too; 0: it does not round this one.
        changes: (call index, port) -> quantizer, of other bits, of what is given to the quantizer there.
        call_sites: how often the layer is called in one pass of the model.
        freeze: for a batch norm, the switch that stops its statistics.
        stands_alone: a batch norm that folds into no convolution before it.
        taken_apart: a concatenation whose result is split again.
    """

    def __init__(self, layer: Any, scheme: Scheme, host: Any) -> None:
        self.layer, self.scheme, self.host = layer, scheme, host
        self.quantizers: dict[tuple[int, str], ActivationQuantizer] = {}
        self.following: set[tuple[int, str]] = set()
        self.kernels: dict[str, tuple[Any, KernelQuantizer]] = {}
        self.biases: dict[int, BiasRounding] = {}
        self.added: dict[int, tuple[BiasRounding, Any]] = {}
        self.averages: dict[int, tuple[ActivationQuantizer, int]] = {}
        self.changes: dict[tuple[int, str], ActivationQuantizer] = {}
        self.call_sites = 1
        self.freeze: BatchNormFreeze | None = None
        self.stands_alone = self.taken_apart = False
        self._call = layer.call

    @property
    def own_call(self) -> Any:
        """What the layer computes by itself, as a function of the layer and what it is given."""
        return context.now().own.get(id(self.layer)) or of_any(self.layer, self._call)

    def own_quantizer(self, index: int, port: str, site: QuantizerSite) -> ActivationQuantizer:
        """The quantizer at a point, made as a child of this layer if there is none yet.

        Args:
            index: which call of the layer.
            port: ``"output"``, ``"preactivation"``, ``"input:0"``..., ``"between:0"``...
            site: its bits and range; a quantizer that is there keeps its own.
        """
        key = index, port
        if key not in self.quantizers:
            quantizer = ActivationQuantizer(
                bits=site.bits,
                symmetric=site.symmetric,
                ema_decay=self.scheme.ema_decay,
                fixed_range=site.fixed_range,
                litert_only=site.litert_only,
                name=f"{self.layer.name}_quantizer_{port.replace(':', '')}_{index}",
            )
            quantizer.build()
            add_child(self.host, self._child_name(index, port), quantizer)
            self.quantizers[key] = quantizer
        return self.quantizers[key]

    def owned_quantizers(self) -> dict[tuple[int, str], ActivationQuantizer]:
        """(call, port) -> quantizer, of those that belong to the layer: readers of a tensor share its owner's."""
        return {
            (index, port): quantizer
            for (index, port), quantizer in self.quantizers.items()
            if getattr(self.host, self._child_name(index, port), None) is quantizer
        }

    def _child_name(self, index: int, port: str) -> str:
        """What the attribute of the host is called; of a bare operation by its place: once loaded, its name differs."""
        name = f"quantizer_{port.replace(':', '')}_{index}"
        if self.host is self.layer:
            return name
        return f"bare_operation_{operation_number(self.layer, self.host)}_{name}"

    def quantize_kernels(self, bits: int) -> None:
        """Quantizes the kernels that the layer's rule names, to so many bits."""
        rule = rule_of(self.layer)
        for name, axes in rule.kernels if rule else ():
            # Keras 3 serves some kernels through a property over a private attribute.
            attribute = f"_{name}" if f"_{name}" in self.layer.__dict__ else name
            variable = float32_variable(getattr(self.layer, attribute))
            self.kernels[attribute] = variable, KernelQuantizer(bits, axes)

    def control_statistics(self) -> None:
        """Hangs the switch that stops a batch norm's statistics on the layer."""
        if self.freeze is None:
            self.freeze = BatchNormFreeze(name=f"{self.layer.name}_freeze")
            self.freeze.build()
            add_child(self.layer, "statistics_freeze", self.freeze)

    # --- the wrapped call --------------------------------------------------------------------------------------

    @tf.autograph.experimental.do_not_convert
    def call(self, *args, **kwargs):
        note_traced_step()
        if context.mode() == context.FLOAT:
            return self.own_call(self.layer, *args, **kwargs)
        if self.freeze is not None and len(args) > 1:  # training and mask, given by position
            names = list(inspect.signature(self._call).parameters)
            args, kwargs = args[:1], {**dict(zip(names[1:], args[1:], strict=False)), **kwargs}
        if self.freeze is not None and kwargs.get("training"):
            return self._normalize(self.freeze.frozen, args, kwargs)
        return self._quantized(self.own_call, args, kwargs)

    def _normalize(self, frozen, args, kwargs):
        """A batch norm in training mode: its statistics stop, and are used, once the switch is on."""

        def still(inputs, **kwargs):
            fused = None if kwargs.get("mask") is not None else normalize_with_moving_statistics(self.layer, inputs)
            return self._call(inputs, **{**kwargs, "training": False}) if fused is None else fused

        def switched(_, *args, **kwargs):
            return tf.cond(frozen > 0.5, lambda: still(*args, **kwargs), lambda: self._call(*args, **kwargs))

        return self._quantized(switched, args, kwargs)

    def _quantized(self, call, args, kwargs):
        index = context.call_index(self.layer, self.call_sites)
        args, kwargs = self._quantize_inputs(index, args, kwargs)
        replaced: dict[str, Any] = {}
        if context.mode() != context.CALIBRATE:
            for attribute, (variable, quantize) in self.kernels.items():
                at_export = context.mode() == context.EXPORT and attribute == list(self.kernels)[-1]
                least = self.least_scale() if at_export else None
                kernel = context.now().kernels.get(id(variable), variable)
                replaced[attribute] = tf.cast(quantize(kernel, least), self.layer.compute_dtype)
        if index in self.biases and context.rounds_biases() and not kwargs.get("training"):
            replaced.update(self.biases[index].rounded(self.layer))
        if context.mode() == context.EXPORT:
            args, kwargs = self._joined_in_one_range(index, args, kwargs)
            bits = self.biases[index].read.bits if index in self.biases else 8
            if self.kernels or self.freeze:
                replaced.update(mended_attributes(self.layer, bits))
            fitting = self.biases[index].fitting(self.layer) if index in self.biases else {}
            for name, value in fitting.items():
                replaced[name] = value if value is True else tf.cast(value, self.layer.compute_dtype)
            if self.kernels and activation_name(self.layer) == "clipped_relu":
                replaced["activation"] = self._activation(index, self.layer.activation)
            as_convolution = convolution_instead(self.layer, args, self.stands_alone, bits, fitting)
            if as_convolution is not None:
                call, replaced = of_any(self.layer, as_convolution), {}
        if index in self.averages and self.averages[index][0].bits > 8 and context.mode() == context.QUANTIZE:
            call = of_any(self.layer, resized_bilinearly(self.layer, functools.partial(call, self.layer)))
        rule = rule_of(self.layer)
        if rule is not None and rule.role == "activation":
            call = of_any(self.layer, self._activation(index, functools.partial(call, self.layer)))
        before_activation = self.quantizers.get((index, "preactivation"))
        if before_activation is not None:
            activation, replaced["activation"] = self.layer.activation, tf.identity
        if (index, "between:0") in self.quantizers:
            outputs = self._in_steps(index, call, replaced, *args, **kwargs)
        else:
            outputs = called_with(self.layer, replaced, call, *args, **kwargs)
        if before_activation is not None:
            outputs = self._activation(index, activation)(before_activation(outputs))
        if index in self.averages and context.mode() == context.QUANTIZE:
            read, rounded = self.averages[index]
            if "tensorrt" not in (self.scheme.target, context.view()):
                outputs = read.in_steps(outputs)
            elif rounded:
                outputs = read.in_steps(outputs, smaller=rounded)
        return self._rounded((index, "output"), outputs)

    def _rounded(self, key, values):
        quantizer = self.quantizers.get(key)
        return values if quantizer is None else quantizer(values, observe=key not in self.following)

    def least_scale(self) -> np.ndarray | None:
        """For a LiteRT file, the smallest scales of the last kernel's channels that leave all that is added room."""
        needed = [
            scale for rounding, layer in self.added.values() if (scale := rounding.least_scale(layer)) is not None
        ]
        return np.max(needed, axis=0) if needed else None

    def _joined_in_one_range(self, index, args, kwargs):
        """What a concatenation joins, each rounded to the range of its result; of extremes, what had other bits."""
        if (index, "output") not in self.quantizers or not has_one_scale(self.layer):
            return args, kwargs
        flat, position = [], 0
        for value in tf.nest.flatten((args, kwargs)):
            if tf.is_tensor(value):
                changed = (index, f"input:{position}") in self.changes
                if changed or concatenates(self.layer):
                    between = self.quantizers.get((index, f"between:{max(position - 1, 0)}"))
                    result = between or self.quantizers[index, "output"]
                    value = joined_in_range(value, result, self.taken_apart or changed)
                position += 1
            flat.append(value)
        return tf.nest.pack_sequence_as((args, kwargs), flat)

    def _in_steps(self, index, call, replaced, inputs, **_):
        """What the layer computes, with ranges inside."""

        def between(number, tensor):
            return self.quantizers[index, f"between:{number}"](tensor)

        def value(name):
            return replaced[name] if name in replaced else getattr(self.layer, name)

        composite = rule_of(self.layer).composite  # type: ignore[union-attr]  # there are ranges inside
        return composite.call(Steps(functools.partial(call, self.layer), value, between), inputs)  # type: ignore[union-attr]

    def _activation(self, index, function):
        """The activation; in the steps that LiteRT computes it in, for an export in a form it has in integers."""
        quantizer = self.quantizers.get((index, "output"))
        if context.mode() == context.CALIBRATE or quantizer is None:
            return function
        litert = self.scheme.target != "tensorrt" and context.view() == "litert"
        if litert and quantizer.bits == 8 and activation_name(self.layer) == "silu":
            return lambda inputs, *_, **__: silu_in_steps(inputs)
        if context.mode() != context.EXPORT:
            return function
        return activation_for_export(self.layer, function, quantizer.bits, quantizer.range()[1])

    def _as_litert(self, kwargs):
        """Whether the layer computes as its integers do in LiteRT; in training, ranges are found first."""
        return (
            context.mode() == context.QUANTIZE
            and context.view() == "litert"
            and not context.trains(kwargs.get("training"))
        )

    def _quantize_inputs(self, index, args, kwargs):
        wanted = {port: q for (i, port), q in self.quantizers.items() if i == index and port.startswith("input:")}
        if not wanted:
            return args, kwargs
        flat, position = [], 0
        for value in tf.nest.flatten((args, kwargs)):
            if tf.is_tensor(value):
                quantizer = wanted.get(f"input:{position}")
                if quantizer is not None and context.mode() == context.EXPORT:
                    value = kept_apart(value, quantizer.bits)
                given = self.changes.get((index, f"input:{position}"))
                if (
                    quantizer is not None
                    and given is not None
                    and given.bits > quantizer.bits
                    and self._as_litert(kwargs)
                ):
                    value = in_fewer_bits(value, given, quantizer)
                if (index, f"input:{position}") in self.following:
                    value = self._rounded((index, f"input:{position}"), value)
                else:
                    value = value if quantizer is None else context.quantized_once(quantizer, value)
                position += 1
            flat.append(value)
        return tf.nest.pack_sequence_as((args, kwargs), flat)


@contextlib.contextmanager
def own_calls_replaced(calls: Iterable[tuple[Any, Any]]) -> Iterator[None]:
    """Within it, in this thread, layers compute something else; their ranges stay where they are.

    Args:
        calls: layers or bare operations, each with what to call in place of its own ``call``: a function of the layer
            and what it is given.
    """
    replaced = {id(layer): (layer, call) for layer, call in calls}
    hooked = {key: call for key, (layer, call) in replaced.items() if hook_of(layer) is not None}
    others = [layer for key, (layer, _) in replaced.items() if key not in hooked]
    with (
        context.using(own={**context.now().own, **hooked}),
        intercepted(others, lambda layer, _: functools.partial(replaced[id(layer)][1], layer)),
    ):
        yield


def hooks_of(model: Any) -> list[LayerHook]:
    """The hooks of every quantized layer below a model, in the model's own order of layers."""
    return [found for found in map(hook_of, layers_and_operations(model)) if found is not None]


def layers_and_operations(model: Any) -> list[Any]:
    """The model, every layer below it, and the bare operations of its functional models."""
    everything = [
        model,
        *model._flatten_layers(include_self=False),
        *(operation for operation, _ in operations_of(model)),
    ]
    return list({id(layer): layer for layer in everything}.values())


def quantizers_of(model: Any) -> list[ActivationQuantizer]:
    """Every activation quantizer below a model, each once."""
    return [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, ActivationQuantizer)]


def range_labels(model: Any) -> dict[int, str]:
    """``id(quantizer)`` -> whose it is and where, ``"net/conv, output"``, of every activation quantizer of a model."""
    labels = layer_labels(model)
    return {
        id(quantizer): f"{labels[id(found.layer)]}, {port}"
        for found in hooks_of(model)
        for (_, port), quantizer in found.owned_quantizers().items()
    }


def freezes_of(model: Any) -> list[BatchNormFreeze]:
    """Every batch norm's switch below a model."""
    return [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, BatchNormFreeze)]
