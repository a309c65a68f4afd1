"""Sums, differences and products with numbers, written between layers, in LiteRT with 16-bit activations.

The converter gives a number 8 bits beside a tensor of 16, which no operator takes, unless the number has a range of 16
bits; and of a sum it leaves the number in float even then.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.export.layer_forms import sum_form
from resnet_backbones.keras_compat.operations import operation_name
from resnet_backbones.quantization.hooks import own_call
from resnet_backbones.quantization.traced_values import chosen_from

_COMPUTES = {"add": operator.add, "subtract": operator.sub, "multiply": operator.mul}
_RANGE = "FakeQuantWithMinMaxArgs"  # TensorFlow's operation with a range that is no tensor


def number_form(layer: Any) -> Callable[..., Any] | None:
    """The replacement for a bare sum, difference or product with a number in LiteRT with 16-bit activations.

    Args:
        layer: any layer, or a bare operation of a functional model.

    Returns:
        The same with a range of 16 bits for the number, a sum as the difference with its negative; of tensors as
        :func:`sum_form`; ``None`` for all else.
    """
    name = operation_name(layer)
    if name not in _COMPUTES:
        return sum_form(layer)
    own = sum_form(layer) or own_call(layer)

    def call(layer, *args, **more):
        given = [*args, *(more[key] for key in sorted(more) if key != "name")]
        numbers = [_number(value) for value in given]
        tensors = [value for value, number in zip(given, numbers, strict=True) if number is None]
        if len(given) != 2 or len(tensors) != 1 or not _has_16_bits(tensors[0]):
            return own(layer, *args, **more)
        if name == "add":
            (number,) = (number for number in numbers if number is not None)
            return tensors[0] - _in_16_bits(-number)
        pairs = zip(given, numbers, strict=True)
        return _COMPUTES[name](*(value if number is None else _in_16_bits(number) for value, number in pairs))

    return call


def _number(value: Any) -> np.ndarray | None:
    """The value as an array of float32; ``None`` for a tensor that is computed."""
    if not tf.is_symbolic_tensor(value):
        return np.asarray(value, np.float32)
    while value.op.type in ("Identity", "Cast") or value.op.type.startswith("FakeQuant"):
        value = value.op.inputs[0]
    known = tf.get_static_value(value)
    return None if known is None else np.asarray(known, np.float32)


def _has_16_bits(values: Any) -> bool:
    source = chosen_from(values, pooled=True)
    return source.type.startswith("FakeQuant") and source.get_attr("num_bits") == 16


def _in_16_bits(number: np.ndarray) -> Any:
    """The number with a range of its own: of one that two operators share, the converter gives them 8 bits."""
    bound = np.abs(number).max() or np.float32(1.0)
    operations = tf.compat.v1.get_default_graph().get_operations()
    taken = {operation.get_attr("max") for operation in operations if operation.type == _RANGE}
    while float(bound) in taken:
        bound = np.nextafter(bound, np.float32(np.inf))
    return tf.quantization.fake_quant_with_min_max_args(
        number, -float(bound), float(bound), num_bits=16, narrow_range=True
    )
