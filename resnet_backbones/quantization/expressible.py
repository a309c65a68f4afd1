"""What LiteRT has no integers for, refused before training where that can be, else before a file is made.

Found by converting each operator by itself with TensorFlow 2.21 and running it in LiteRT 2.3.
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_api import keras
from resnet_backbones.keras_api.operations import operation_name
from resnet_backbones.quantization.hooks import LayerHook, hooks_of
from resnet_backbones.quantization.placement.trace import Trace
from resnet_backbones.quantization.rules import activation_name
from resnet_backbones.quantization.schemes import Scheme

_BITS = (8, 16)
_SEEKING = ("ArgMax", "ArgMin", "TopKV2")  # TensorFlow's operations
#: Activations with an int16 form.
_ACTIVATIONS_16 = frozenset({"relu", "relu6", "clipped_relu", "leaky_relu", "leaky_relu_001"})


def check_expressible(model: Any) -> None:
    """Checks that LiteRT can hold a quantized model's precisions.

    LiteRT has activations of 8 and of 16 bits. With 16, the converter makes no sigmoid, softmax, tanh or anything made
    of them, no concatenation and no product with a number.

    Args:
        model: a quantized model.

    Raises:
        ValueError: a layer's activations have other bits, or 16 where there is no such operator; the message names the
            layers and what to do.
    """
    others = [found.layer.name for found in hooks_of(model) if _bits(found) - set(_BITS)]
    if others:
        raise ValueError(
            f"LiteRT holds activations in 8 or 16 bits; {_listed(others)} of {model.name!r} have other bits. They can "
            "be trained, not exported to LiteRT: use activation_bits 8 or 16."
        )
    check_16_bits(model)


def check_16_bits(model: Any) -> None:
    """Checks that LiteRT has an int16 form of all that has activations of 16 bits.

    Args:
        model: a quantized model.

    Raises:
        ValueError: it has none of some layers; the message names them and the override that helps.
    """
    without = [found.layer.name for found in hooks_of(model) if 16 in _bits(found) and not _has_int16_form(found.layer)]
    if without:
        raise ValueError(
            f"LiteRT's converter has no int16 form of {_listed(without)} in {model.name!r} (sigmoid, softmax, tanh and "
            "what is made of them, PReLU, concatenations, averages of tensors). Give these 8 bits, "
            f"override={{{without[0]!r}: {{'activation_bits': 8}}}}, or leave them in float with exclude."
        )


def check_bare_operations(trace: Trace, scheme: Scheme) -> None:
    """Checks that LiteRT has an int16 form of what is computed outside of layers.

    Args:
        trace: the traced model.
        scheme: what it is quantized by.

    Raises:
        ValueError: it seeks the largest of 16-bit values outside of a layer; the message says what to do.
    """
    if scheme.activation_bits == 16 and (found := trace.bare_operations(*_SEEKING)):
        raise ValueError(
            f"LiteRT has no int16 form of {', '.join(sorted({operation.type for operation in found}))} in "
            f"{trace.model.name!r}. Return the values it reads instead and seek in what the file gives, put it in a "
            "layer of its own, which stays in float, or quantize with 'edge_int8'."
        )


def _bits(found: LayerHook) -> set[int]:
    return {quantizer.bits for quantizer in found.quantizers.values()}


def _has_int16_form(layer: Any) -> bool:
    activation = activation_name(layer)
    if activation is not None and activation not in _ACTIVATIONS_16:
        return False
    joins = (keras.layers.Concatenate, keras.layers.Average, keras.layers.PReLU)
    return not isinstance(layer, joins) and operation_name(layer) != "concatenate"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
