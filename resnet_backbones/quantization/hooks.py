"""How quantization enters a layer: its ``call`` is wrapped once, in place, on the instance.

The class, the configuration and the weights of the layer stay what they were. Ranges live in tracked child layers,
so that they are saved with the model (Keras 3's convolutions save only kernel and bias of their own).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_api import add_child, float32_variable
from resnet_backbones.quantization import context
from resnet_backbones.quantization.quantizers import ActivationQuantizer, BatchNormFreeze, KernelQuantizer, read
from resnet_backbones.quantization.rules import rule_of
from resnet_backbones.quantization.schemes import Scheme

_HOOK = "_quantization_hook"


def hook_of(layer: Any) -> LayerHook | None:
    """The layer's hook; ``None`` when it is not quantized."""
    return layer.__dict__.get(_HOOK)


def hook(layer: Any, scheme: Scheme) -> LayerHook:
    """The layer's hook, made and wrapped round its ``call`` if there is none yet."""
    existing = hook_of(layer)
    if existing is None:
        existing = LayerHook(layer, scheme)
        layer.__dict__[_HOOK] = existing
        layer.__dict__["call"] = tf.autograph.experimental.do_not_convert(existing.call)
    return existing


class LayerHook:
    """Quantizes what goes into a layer, its kernels and what comes out.

    Attributes:
        quantizers: (call index, port) -> ActivationQuantizer.
        kernels: attribute of the layer -> (variable, KernelQuantizer).
        call_sites: how often the layer is called in one pass of the model.
        freeze: for a batch norm, the switch that stops its statistics.
        stands_alone: a batch norm that folds into no convolution before it.
    """

    def __init__(self, layer: Any, scheme: Scheme) -> None:
        self.layer, self.scheme = layer, scheme
        self.quantizers: dict[tuple[int, str], ActivationQuantizer] = {}
        self.kernels: dict[str, tuple[Any, KernelQuantizer]] = {}
        self.call_sites = 1
        self.freeze: BatchNormFreeze | None = None
        self.stands_alone = False
        self._call = layer.call

    def own_quantizer(self, index: int, port: str, fixed_range: tuple[float, float] | None) -> ActivationQuantizer:
        """The quantizer at a point, made as a child of this layer if there is none yet."""
        key = index, port
        if key not in self.quantizers:
            name = f"quantizer_{port.replace(':', '')}_{index}"
            quantizer = ActivationQuantizer(
                bits=self.scheme.activation_bits,
                symmetric=self.scheme.symmetric_activations,
                ema_decay=self.scheme.ema_decay,
                fixed_range=fixed_range,
                name=f"{self.layer.name}_{name}",
            )
            quantizer.build()
            add_child(self.layer, name, quantizer)
            self.quantizers[key] = quantizer
        return self.quantizers[key]

    def quantize_kernels(self) -> None:
        rule = rule_of(self.layer)
        for name, axes in rule.kernels if rule else ():
            # Keras 3 serves some kernels through a property over a private attribute.
            attribute = f"_{name}" if f"_{name}" in self.layer.__dict__ else name
            variable = float32_variable(getattr(self.layer, attribute))
            self.kernels[attribute] = variable, KernelQuantizer(self.scheme.kernel_bits, axes)

    def control_statistics(self) -> None:
        if self.freeze is None:
            self.freeze = BatchNormFreeze(name=f"{self.layer.name}_freeze")
            self.freeze.build()
            add_child(self.layer, "statistics_freeze", self.freeze)

    # --- the wrapped call --------------------------------------------------------------------------------------

    def call(self, *args, **kwargs):
        if context.mode() == context.FLOAT:
            return self._call(*args, **kwargs)
        if self.freeze is not None and kwargs.get("training"):
            return self._normalize(self.freeze.frozen, args, kwargs)
        return self._quantized(self._call, args, kwargs)

    def _normalize(self, frozen, args, kwargs):
        """A batch norm in training mode: its statistics stop, and are used, once the switch is on."""

        def switched(*args, **kwargs):
            still = {**kwargs, "training": False}
            return tf.cond(frozen > 0.5, lambda: self._call(*args, **still), lambda: self._call(*args, **kwargs))

        return self._quantized(switched, args, kwargs)

    def _quantized(self, call, args, kwargs):
        index = context.call_index(self.layer, self.call_sites)
        args, kwargs = self._quantize_inputs(index, args, kwargs)
        replaced: dict[str, Any] = {}
        if context.mode() != context.CALIBRATE:
            for attribute, (variable, quantize) in self.kernels.items():
                replaced[attribute] = tf.cast(quantize(variable), self.layer.compute_dtype)
        if context.mode() == context.EXPORT:
            replaced.update(self._mended_for_export())
            if self.stands_alone and _normalizes_pixels(self.layer, args):
                call, replaced = self._as_convolution, {}
        before_activation = self.quantizers.get((index, "preactivation"))
        if before_activation is not None:
            activation = self.layer.activation
            replaced["activation"] = lambda x: activation(before_activation(x))
        outputs = _call_with(self.layer, replaced, call, args, kwargs)
        quantizer = self.quantizers.get((index, "output"))
        return outputs if quantizer is None else quantizer(outputs)

    def _as_convolution(self, inputs, **_):
        """A batch norm in inference as a depthwise 1x1 convolution.

        LiteRT computes that in int8 with a scale a channel, so without any rounding of its kernel, and an activation
        fused. A product and a sum would each need a range, the one between them for all channels.
        """
        layer = self.layer
        scale = 1.0 / np.sqrt(read(float32_variable(layer.moving_variance)) + layer.epsilon)
        if layer.gamma is not None:
            scale = scale * _never_zero(read(float32_variable(layer.gamma)))
        offset = -scale * read(float32_variable(layer.moving_mean))
        if layer.beta is not None:
            offset = offset + read(float32_variable(layer.beta))
        kernel = tf.constant(scale.reshape(1, 1, -1, 1), inputs.dtype)
        outputs = tf.nn.depthwise_conv2d(inputs, kernel, (1, 1, 1, 1), "VALID")
        return tf.nn.bias_add(outputs, tf.constant(_never_uniform(offset), inputs.dtype))

    def _mended_for_export(self) -> dict[str, Any]:
        """Attributes whose values the converter cannot quantize as they are, moved by less than the file resolves."""
        mend = {"bias": _never_uniform, "gamma": _never_zero} if self.kernels or self.freeze else {}
        return {
            name: tf.cast(change(read(float32_variable(self.layer.__dict__[name]))), self.layer.compute_dtype)
            for name, change in mend.items()
            if self.layer.__dict__.get(name) is not None
        }

    def _quantize_inputs(self, index, args, kwargs):
        wanted = {port: q for (i, port), q in self.quantizers.items() if i == index and port.startswith("input:")}
        if not wanted:
            return args, kwargs
        flat, position = [], 0
        for value in tf.nest.flatten((args, kwargs)):
            if tf.is_tensor(value):
                quantizer = wanted.get(f"input:{position}")
                value = value if quantizer is None else context.quantized_once(quantizer, value)
                position += 1
            flat.append(value)
        return tf.nest.pack_sequence_as((args, kwargs), flat)


def _call_with(layer: Any, replaced: dict[str, Any], call: Any, args: Any, kwargs: Any) -> Any:
    """Calls the layer with some of its attributes replaced for just this call, past Keras' attribute tracking."""
    before = {name: layer.__dict__[name] for name in replaced}
    layer.__dict__.update(replaced)
    try:
        return call(*args, **kwargs)
    finally:
        layer.__dict__.update(before)


def _normalizes_pixels(layer: Any, args: Any) -> bool:
    """Whether a batch norm is over the channels of (batch, height, width, channels)."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    return len(args) > 0 and args[0].shape.rank == 4 and axes in ([-1], [3])


def _never_uniform(bias: np.ndarray) -> np.ndarray:
    """The bias, with one value moved by the last bit of a float32 if all are the same.

    LiteRT's converter quantizes a bias of equal values with the first channel's scale for every channel, which is
    wrong for kernels with a scale a channel: -4.6 in all channels, where focal loss starts, came out up to 4 % off.
    """
    if bias.size > 1 and np.all(bias == bias.flat[0]) and bias.flat[0] != 0:
        bias = bias.copy()
        bias.flat[0] = np.nextafter(bias.flat[0], np.float32(0), dtype=np.float32)
    return bias


def _never_zero(gamma: np.ndarray) -> np.ndarray:
    """The scale of a batch norm, with zeros raised to a thousandth of the largest.

    Folded into a kernel, a zero makes a channel without a scale, and the converter then leaves the whole convolution
    in float. Such channels are common: blocks start with zeros, and training prunes some. A thousandth of the largest
    is less than half a step of the result, and large enough for the bias to fit 32 bits.
    """
    least = 1e-3 * (np.abs(gamma).max() or 1.0)
    return np.where(np.abs(gamma) < least, np.copysign(least, gamma), gamma).astype(np.float32)


def hooks_of(model: Any) -> list[LayerHook]:
    """The hooks of every quantized layer below a model, in the model's own order of layers."""
    layers = [model, *model._flatten_layers(include_self=False)]
    return [found for found in map(hook_of, layers) if found is not None]


def quantizers_of(model: Any) -> list[ActivationQuantizer]:
    """Every activation quantizer below a model, each once."""
    return [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, ActivationQuantizer)]


def freezes_of(model: Any) -> list[BatchNormFreeze]:
    """Every batch norm's switch below a model."""
    return [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, BatchNormFreeze)]
