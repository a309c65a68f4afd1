"""Layers that stay in float in an int8 LiteRT file.

Between two ranges the converter makes integers of whatever it can, layers without quantizers too: it gives their
kernels scales of its own. So while it runs, such a layer reads its inputs through an operator that has no integer form
and changes nothing; in the finished file that operator is taken out again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from resnet_backbones.export.layer_forms import resized_form
from resnet_backbones.export.litert.flatbuffer import kind_of, read_model, write_model
from resnet_backbones.quantization.hooks import hook_of, own_call
from resnet_backbones.quantization.placement.joins import AVERAGED
from resnet_backbones.quantization.rules import role_of
from resnet_backbones.quantization.summary import float_layers
from resnet_backbones.quantization.traced_values import source_of

# Operations whose integers have the same range in and out.
_ONE_RANGE = ("AvgPool", "ConcatV2", "GatherV2", "MaxPool", "Pack", "PadV2", "ResizeBilinear", "ResizeNearestNeighbor")
# Each value times one: divided by (bias + alpha * the sum of squares) ** beta.
_CHANGES_NOTHING = {"depth_radius": 0, "bias": 1.0, "alpha": 0.0, "beta": 1.0}


def float_forms(model: Any) -> Callable[[Any], Callable[..., Any] | None]:
    """For ``build_graph``: what to call in place of a layer that stays in float; ``None`` for all others.

    Args:
        model: a quantized model.
    """
    kept = float_layers(model)
    in_float: set[str] = set()  # operations of such layers: what reads their results may fuse with them

    def form(layer: Any) -> Callable[..., Any] | None:
        if layer not in kept or _only_moves(layer) or _convolves_in_integers(layer):
            return None
        own = resized_form(layer) or own_call(layer)

        @tf.autograph.experimental.do_not_convert
        def computed_in_float(layer, *args, **kwargs):
            if tf.executing_eagerly():
                return own(layer, *args, **kwargs)
            given = tf.nest.flatten((args, kwargs))
            read = [_without_integers(value, in_float) for value in given]
            args, kwargs = tf.nest.pack_sequence_as((args, kwargs), read)
            graph = tf.compat.v1.get_default_graph()
            before = len(graph.get_operations())
            outputs = own(layer, *args, **kwargs)
            in_float.update(operation.name for operation in graph.get_operations()[before:])
            detours = {one.name: value for one, value in zip(read, given, strict=True) if one is not value}

            def handed_on(value):
                unchanged = detours.get(_made_as(value))
                return _without_integers_before(value) if unchanged is None else unchanged

            return tf.nest.map_structure(handed_on, outputs)

        return computed_in_float

    return form


def _only_moves(layer: Any) -> bool:
    """Whether a layer moves or selects values, which is the same in integers."""
    interpolates = getattr(layer, "interpolation", "nearest") != "nearest"
    return role_of(layer) == "same_range" and not interpolates and not isinstance(layer, AVERAGED)


def _convolves_in_integers(layer: Any) -> bool:
    """Whether only the layer's own activation stays in float, behind a range of what it reads."""
    found = hook_of(layer)
    return found is not None and bool(found.kernels)


def _without_integers_before(value: Any) -> Any:
    """What a layer in float returns; by an operator without integers where its last one has one range for all.

    The converter gives such operators, and those of the kind before them, the range of what reads the result.
    """
    one_range = tf.is_symbolic_tensor(value) and source_of(value).type in _ONE_RANGE
    return _without_integers(value, set()) if one_range else value


def _made_as(value: Any) -> str | None:
    """The name of a tensor, looked up through identities: what only changes training hands on what it was given."""
    if not tf.is_symbolic_tensor(value):
        return None
    while value.op.type in ("Identity", "StopGradient"):
        value = value.op.inputs[0]
    return value.name


def _without_integers(value: Any, in_float: set[str]) -> Any:
    """A tensor as one that the converter makes no integers of; what a layer in float made, and all else, as it is.

    Whether a tensor has a range cannot be seen at the operation that made it: pooling, resizing, joining and the like
    pass the range of what they read on.
    """
    if not tf.is_tensor(value) or not value.dtype.is_floating or not hasattr(value, "op"):
        return value
    if value.op.type == "Placeholder" or value.op.name in in_float or None in value.shape[1:] or value.shape.rank < 2:
        return value
    if value.shape.rank == 4:
        return tf.nn.local_response_normalization(value, **_CHANGES_NOTHING)
    pixels = tf.reshape(value, [-1, 1, 1, value.shape[-1]])
    return tf.reshape(tf.nn.local_response_normalization(pixels, **_CHANGES_NOTHING), [-1, *value.shape[1:]])


def without_detours(data: bytes) -> bytes:
    """Takes out of a file the operators that change nothing.

    Args:
        data: the file as it was converted.

    Returns:
        The file, every other operator as it was.
    """
    model = read_model(data)
    graph = model.subgraphs[0]
    for operator in list(graph.operators):
        if _does_nothing(kind_of(model, operator), operator) and operator.outputs[0] not in graph.outputs:
            source, result = operator.inputs[0], operator.outputs[0]
            for reader in graph.operators:
                reader.inputs = [source if index == result else index for index in reader.inputs]
            graph.operators.remove(operator)
    return write_model(model)


def _does_nothing(kind: int, operator: Any) -> bool:
    """Whether an operator is one that stood in the converter's way: here, or the pooling of export_forms.py."""
    options = operator.builtinOptions
    if kind == schema.BuiltinOperator.LOCAL_RESPONSE_NORMALIZATION:
        return (options.radius, options.bias, options.alpha, options.beta) == tuple(_CHANGES_NOTHING.values())
    if kind == schema.BuiltinOperator.MAX_POOL_2D:
        sizes = (options.filterHeight, options.filterWidth, options.strideH, options.strideW)
        return sizes == (1, 1, 1, 1) and options.fusedActivationFunction == schema.ActivationFunctionType.NONE
    return False
