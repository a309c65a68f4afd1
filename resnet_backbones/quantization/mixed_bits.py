"""What LiteRT computes of 16 bits, or brings to 16 bits, further from Keras than their steps are, refused in time.

Found by comparing files of each kind of layer, with 8 or 16 bits before, in and after it, with Keras.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resnet_backbones.keras_compat import keras
from resnet_backbones.keras_compat.operations import operation_name
from resnet_backbones.quantization.expressible import listed, places
from resnet_backbones.quantization.placement.biases import average_sites
from resnet_backbones.quantization.placement.changes import changes_of_bits, range_of
from resnet_backbones.quantization.placement.selection import layer_patterns
from resnet_backbones.quantization.placement.sites import Placement, QuantizerSite
from resnet_backbones.quantization.rules import activation_name
from resnet_backbones.quantization.trace import LeafCall, Trace

#: Activations that LiteRT's kernels for int8 compute with factors of 8 bits, or round twice.
_ROUGH_8 = frozenset({"hard_sigmoid", "hard_silu", "hard_swish", "leaky_relu", "leaky_relu_001"})
_IN_8 = ("DepthToSpace", "PadV2", "Selu", "Sigmoid", "Softmax", "Tanh")  # TensorFlow's operations without int16
_WITH_NUMBERS = ("Add", "AddV2", "Sub", "Mul", "RealDiv", "SquaredDifference")  # TensorFlow's operations
_WITH_MATRICES = ("BatchMatMul", "BatchMatMulV2", "Einsum", "MatMul")  # of which it makes integers without a range, too


def check_resizing(trace: Trace, placement: Placement) -> None:
    """Checks that Keras resizes 16-bit values as LiteRT does.

    Args:
        trace: the traced model.
        placement: the ranges that were placed.

    Raises:
        ValueError: it resizes them outside of a layer, or a part of the images; the message says what to do.
    """
    operations = [one for one in trace.operations("ResizeBilinear") if not _resizes_bilinearly(one[1])]
    read = [range_of(trace, placement, trace.canonical(operation.inputs[0])) for operation, _ in operations]
    wide = [number is not None and placement.sites[number].bits > 8 for number in read]
    if bare := [one for one, is_wide in zip(operations, wide, strict=True) if is_wide]:
        raise ValueError(
            f"{places(trace, bare)} resizes 16-bit values bilinearly, which LiteRT does by 1024ths of a pixel. Use a "
            "layer for it, Resizing or UpSampling2D, which Keras then computes alike, or quantize with 'edge_int8'."
        )
    patterns, sites = layer_patterns(trace.model), average_sites(trace, placement, of_readers=True)
    layers = [trace.calls[order].layer for order, number, _ in sites if placement.sites[number].bits > 8]
    parts = [patterns[id(layer)] for layer in layers if _resizes_bilinearly(layer) and _resizes_a_part(layer)]
    if parts:
        raise ValueError(
            f"{listed(parts)} of {trace.model.name!r}: with 16 bits LiteRT resizes otherwise than Keras, which is "
            "followed for whole images with channels last alone. Leave out crop_to_aspect_ratio, pad_to_aspect_ratio "
            f"and data_format, or leave it in float, exclude={parts}."
        )


def check_numbers(trace: Trace, placement: Placement) -> None:
    """Checks that LiteRT's converter computes with numbers only where it is told to give them 16 bits.

    Args:
        trace: the traced model.
        placement: the ranges that were placed.

    Raises:
        ValueError: it would give 8 bits to a number beside 16-bit values; the message says what to do.
    """
    computed, ends, given = trace.computed(), _bits_at_ends(trace, placement), _bits_of_inputs(trace, placement)
    found = []
    for operation in trace.bare_operations(*_WITH_NUMBERS, *_WITH_MATRICES):
        read = [trace.canonical(tensor) for tensor in operation.inputs if tensor.op.name in computed]
        rounded = operation.name in ends or operation.type in _WITH_MATRICES
        if len(read) == len(operation.inputs) or not read or not rounded:
            continue
        number = range_of(trace, placement, read[0])
        bits = given.get(id(read[0])) if number is None else placement.sites[number].bits
        if bits is not None and max(bits, ends.get(operation.name, 0)) > 8:
            found.append((operation, None))
    if found:
        raise ValueError(
            f"{places(trace, found)} computes with a number or a weight and 16-bit values, for which LiteRT's "
            "converter would take 8 bits. Write sums, differences and products between the layers of a functional "
            "model, a quotient as a product, x * (1 / number), or put it in a layer of a class of its own, which stays "
            "in float, or quantize with 'edge_int8'."
        )


def check_bare_forms(trace: Trace, placement: Placement) -> None:
    """Checks that LiteRT's converter has an int16 form of what reads 16-bit values outside of layers.

    Args:
        trace: the traced model.
        placement: the ranges that were placed.

    Raises:
        ValueError: it has none; the message says what to do.
    """
    read = [(one, range_of(trace, placement, trace.canonical(one.inputs[0]))) for one in trace.bare_operations(*_IN_8)]
    found = [(one, None) for one, number in read if number is not None and placement.sites[number].bits > 8]
    if found:
        raise ValueError(
            f"{places(trace, found)} reads 16-bit values, and LiteRT's converter has no int16 form of "
            f"{', '.join(sorted({operation.type for operation, _ in found}))}. Put it in a layer of a class of its "
            "own, which stays in float, or quantize with 'edge_int8'."
        )


def _bits_at_ends(trace: Trace, placement: Placement) -> dict[str, int]:
    """Bits of the ranges that results of bare operations have, moved or rectified before or not, by their names."""
    found = {}
    for site, tensor in _read_at(trace, placement):
        while (source := _moved_or_rectified(trace, tensor)) is not None:
            tensor = source
        found[tensor.op.name] = site.bits
    return found


def _bits_of_inputs(trace: Trace, placement: Placement) -> dict[int, int]:
    """Bits of the ranges that the model's inputs have, by their id."""
    given = {id(tensor) for tensor in trace.inputs}
    return {id(tensor): site.bits for site, tensor in _read_at(trace, placement) if id(tensor) in given}


def _read_at(trace: Trace, placement: Placement) -> Iterator[tuple[QuantizerSite, Any]]:
    """Each range with the tensors that it rounds at the inputs of layers, and at the ends of layers of layers."""
    for site in placement.sites:
        for order, port in site.points:
            call = trace.points[order]
            if port.startswith("input:"):
                yield site, call.inputs[int(port.split(":")[1])]
            elif port == "output":
                yield from ((site, tensor) for tensor in call.outputs)


def _moved_or_rectified(trace: Trace, tensor: Any) -> Any:
    if trace.producer(tensor) is None and tensor.op.type in ("Relu", "Relu6"):
        return trace.canonical(tensor.op.inputs[0])
    return trace.moved_from(tensor)


def check_changes(trace: Trace, placement: Placement) -> None:
    """Checks that what 16 bits are made of has no more than 8 bits' own errors.

    LiteRT's kernels for int8 are a step off here and there where they multiply by numbers of 8 bits. Of such a step
    layers with 8 bits hardly see anything, and layers with 16 bits see 256 of theirs.

    Args:
        trace: the traced model.
        placement: the ranges that were placed.

    Raises:
        ValueError: a layer with 16 bits reads such a result; the message names both and what to do.
    """
    patterns, computed = layer_patterns(trace.model), trace.computed()
    found: dict[str, str] = {}
    for change in changes_of_bits(trace, placement):
        rough = [call.layer for call in change.way if _is_rough(call.layer) or _rounds_numbers(call, computed)]
        if rough and placement.sites[change.given].bits == 8:
            found[patterns[id(trace.points[change.order].layer)]] = patterns[id(rough[0])]
    if found:
        readers, made = list(found), list(dict.fromkeys(found.values()))
        override = ", ".join(f"{name!r}: {{'activation_bits': 8}}" for name in readers)
        raise ValueError(
            f"In 8 bits LiteRT computes {listed(made)} of {trace.model.name!r} a step off here and there (leaky ReLU, "
            "PReLU, hard sigmoid and swish, bilinear resizing, arrays of numbers), of which "
            f"{listed(readers)}, with 16 bits, would see 256. Give {listed(readers)} 8 bits too, "
            f"override={{{override}}}, or leave {listed(made)} in float, exclude={made}."
        )


def _is_rough(layer: Any) -> bool:
    by_name = activation_name(layer) in _ROUGH_8
    return by_name or isinstance(layer, keras.layers.PReLU) or _resizes_bilinearly(layer)


def _rounds_numbers(call: LeafCall, computed: set[str]) -> bool:
    """Whether a bare operation computes with several numbers, which share a scale."""
    if operation_name(call.layer) not in ("add", "subtract", "multiply"):
        return False
    return any(one.op.name not in computed and one.shape.num_elements() != 1 for one in call.outputs[0].op.inputs)


def _resizes_a_part(layer: Any) -> bool:
    kept = any(getattr(layer, f"{how}_to_aspect_ratio", False) for how in ("crop", "pad"))
    return kept or getattr(layer, "data_format", None) == "channels_first"


def _resizes_bilinearly(layer: Any) -> bool:
    resizes = isinstance(layer, (keras.layers.UpSampling2D, keras.layers.Resizing))
    return resizes and layer.interpolation == "bilinear"
