"""Whether the integers in a file are those that training saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from resnet_backbones.export.contents import FileKernel
from resnet_backbones.export.convolutions import spread_kernel
from resnet_backbones.export.sources import Sources
from resnet_backbones.keras_compat import float32_variable
from resnet_backbones.quantization.export_forms import never_zero
from resnet_backbones.quantization.hooks import LayerHook, hook_of, hooks_of
from resnet_backbones.quantization.placement.selection import layer_labels
from resnet_backbones.quantization.quantizers import read

#: What is true of kernels of 4 bits in a .tflite, measured with LiteRT 2.3.0 and OpenVINO 2026.4.1.
FOUR_BITS = (
    "Kernels of 4 bits make a .tflite smaller, not faster: LiteRT runs them about 3 times slower than those of 8 bits, "
    "and OpenVINO does not load them."
)
#: Largest value of a kernel's channel, of those with smaller ones, by LiteRT's converter.
_LEAST_BOUND = 5e-7
_HALF_A_STEP = 0.5 + 1e-4  # and what float32 makes of the batch norm's factor


@dataclass(frozen=True)
class KernelParity:
    """The kernels of a file against those of the quantized Keras model.

    Attributes:
        compared: kernels of the file that belong to a quantized layer and have its bits (those of fewer than 8 bits may
            be held in 8, on another grid); a shared layer's count once a call.
        equal: how many of them hold the same integers, every one.
        scale_error: largest relative difference of a channel's scale, batch norm folded.
        different: the layers whose integers differ.
        missing: quantized kernels, ``"net/conv.kernel"``, that were found nowhere in the file.
        of_four_bits: kernels that the file holds in 4 bits.
    """

    compared: int
    equal: int
    scale_error: float
    different: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    of_four_bits: int = 0


def compare_kernels(model: Any, kernels: Iterable[FileKernel], sources: Sources) -> KernelParity:
    """Compares every kernel of a file with the Keras model's.

    Folding a batch norm into a kernel that has a scale a channel changes the scales only, and where the batch norm's
    own scale is negative the signs of the integers.

    Args:
        model: the quantized model.
        kernels: those of the file.
        sources: which layer each operation of the exported function comes from.
    """
    compared, error, different, seen = 0, 0.0, [], set()
    kernels = list(kernels)
    for kernel in kernels:
        found = sources.weighted(kernel.output) or sources.called_once(kernel.layer)
        if found is None:
            continue
        call, norm = found
        hook = hook_of(call.layer)
        if hook is None or not hook.kernels:
            continue
        name = _attribute(hook, kernel.depthwise)
        variable, quantizer = hook.kernels[name]
        variable = spread_kernel(call.layer, variable) if kernel.mended else variable
        seen.add((id(call.layer), name))
        if quantizer.bits != kernel.bits:
            continue
        bits = hook.added[call.index][0].read.bits if call.index in hook.added else 8
        within = kernel.depthwise and len(hook.kernels) > 1  # a separable convolution's first
        after = np.ones(1) if within else sources.scaled_after(call)
        expected = _expected(variable, quantizer, None if within else norm, after)
        compared += 1
        if kernel.mended and not within and quantizer.axes is not None:
            norms = np.abs(after * (1.0 if norm is None else _factor(norm)))
            least = 0.0 if (needed := hook.least_scale()) is None else needed * norms
            least = np.maximum(least, _LEAST_BOUND / (2 ** (quantizer.bits - 1) - 1))
            kernel = replace(kernel, coarser=(least > expected[1].reshape(-1)) | _raised(norm, bits))
        equal, scale_error = _compare(kernel, *expected)
        error = max(error, scale_error)
        if not equal:
            different.append(sources.label(call))
    labels = layer_labels(model)
    missing = [
        f"{labels[id(hook.layer)]}.{name.strip('_')}"
        for hook in hooks_of(model)
        for name, (_, quantizer) in hook.kernels.items()
        if (id(hook.layer), name) not in seen
    ]
    of_four_bits = sum(kernel.bits == 4 for kernel in kernels)
    return KernelParity(compared, compared - len(different), error, different, missing, of_four_bits)


def _attribute(hook: LayerHook, depthwise: bool) -> str:
    """Which kernel of a layer: a separable convolution has two."""
    names = list(hook.kernels)
    return next((name for name in names if ("depthwise" in name) == depthwise), names[0])


def _expected(variable: Any, quantizer: Any, norm: Any, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integers and scales with a batch norm, and the factors after it, folded; which channels have a scale.

    Those have one that are not all zero.
    """
    kernel = read(float32_variable(variable)).astype(np.float64)
    bound = np.max(np.abs(kernel), axis=quantizer.axes, keepdims=True)
    scales = bound / (2 ** (quantizer.bits - 1) - 1)
    values = np.asarray(quantizer(float32_variable(variable)), np.float64)
    integers = np.round(np.divide(values, scales, where=bound > 0, out=np.zeros_like(values)))
    if quantizer.axes is not None:  # into a kernel of one range, a batch norm does not fold
        factor = np.broadcast_to(after * (1.0 if norm is None else _factor(norm)), bound.size)
        factor = factor.reshape(bound.shape)
        integers, scales = integers * np.sign(factor), scales * np.abs(factor)
    alive = scales > np.finfo(np.float32).tiny  # a batch norm switches others off: zeros, whatever their scale
    return np.where(alive, integers, 0).astype(np.int32), scales, alive


def _factor(norm: Any) -> np.ndarray:
    """What a batch norm multiplies each channel by."""
    factor = 1.0 / np.sqrt(read(float32_variable(norm.moving_variance)).astype(np.float64) + norm.epsilon)
    return factor if norm.gamma is None else factor * read(float32_variable(norm.gamma)).astype(np.float64)


def _raised(norm: Any, bits: int) -> np.ndarray:
    """Which channels have larger steps in a LiteRT file than their factor gives: those that are nearly switched off."""
    gamma = np.ones(1) if norm is None or norm.gamma is None else read(float32_variable(norm.gamma))
    return np.abs(gamma) < np.abs(never_zero(gamma, bits))


def _compare(kernel: FileKernel, integers: np.ndarray, scales: np.ndarray, known: np.ndarray) -> tuple[bool, float]:
    """Whether a file's integers are the expected ones, and the largest relative difference of a known scale.

    Those of channels with larger steps are compared by the values they stand for, to half a step.
    """
    if integers.shape != kernel.values.shape:
        return False, 0.0
    found = kernel.scales.reshape(scales.shape) if kernel.scales.size > 1 else kernel.scales.reshape(-1)
    coarser = np.zeros(scales.shape, bool) if kernel.coarser is None else kernel.coarser.reshape(scales.shape)
    coarser = coarser & (found >= scales)
    rounded = np.abs(kernel.values - integers * (scales / found)) < _HALF_A_STEP
    axes = tuple(axis for axis, size in enumerate(scales.shape) if size == 1)
    rounded |= kernel.mended & (
        np.abs(kernel.values) == np.abs(kernel.values).max(axes, keepdims=True)
    )  # gives the range
    known = known & ~coarser
    errors = np.abs(found - scales) / np.where(known, scales, 1.0)
    equal = np.all(np.where(coarser, rounded, integers == kernel.values))
    return bool(equal), float(np.max(errors, where=known, initial=0.0))
