"""What a file of a quantized model cannot hold, refused before training where that can be, else before a file is made.

Found by converting each operator by itself with TensorFlow 2.21 and tf2onnx 1.17, and running it in LiteRT 2.3 and ONNX
Runtime.
"""

from __future__ import annotations

import warnings
from typing import Any

import tensorflow as tf

from resnet_backbones.keras_compat import keras, policy_of
from resnet_backbones.keras_compat.operations import operation_name
from resnet_backbones.quantization.hooks import LayerHook, hooks_of
from resnet_backbones.quantization.leaves import leaves_of
from resnet_backbones.quantization.placement.selection import layer_patterns
from resnet_backbones.quantization.rules import activation_name, concatenates, resized_in_float
from resnet_backbones.quantization.trace import Trace
from resnet_backbones.schemes import Scheme

_BITS = (8, 16)
_FORMATS = {"litert": ("LiteRT", "ONNX"), "portable": ("LiteRT", "ONNX"), "tensorrt": ("ONNX",)}  # a scheme's target's
_SEEKING = ("ArgMax", "ArgMin", "TopKV2")  # TensorFlow's operations
_ASSIGNING = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
_DRAWING = (
    "Multinomial", "RandomStandardNormal", "RandomUniform", "RandomUniformInt", "StatelessMultinomial",
    "StatelessRandomNormalV2", "StatelessRandomUniformIntV2", "StatelessRandomUniformV2", "StatelessTruncatedNormalV2",
    "TruncatedNormal",
)  # fmt: skip
#: Operations that no file holds, since they do not depend on the images alone -> why, and what to do.
_NO_FUNCTION = {
    _DRAWING: "draws random numbers in inference, which no file does as Keras. Call it without training=True, or "
    "leave it out.",
    _ASSIGNING: "changes its variables in inference, which no file can. Call it without training=True, and build "
    "recurrent layers with stateful=False.",
}
_IN_NEITHER = (
    "AdjustSaturation", "Angle", "BesselI0", "BesselI0e", "BesselI1e", "Betainc",
    "CTCBeamSearchDecoder", "Cholesky", "Complex", "Cross", "CumulativeLogsumexp", "DecodeJpeg", "Digamma",
    "Dilation2D", "DrawBoundingBoxesV2", "EagerPyFunc", "EncodeJpeg", "Erfinv", "EuclideanNorm", "FFT2D",
    "FractionalMaxPool", "HSVToRGB", "HistogramFixedWidth", "IFFT", "IRFFT", "Igamma",
    "ImageProjectiveTransformV3", "InTopKV2", "Invert", "LowerBound", "MatrixDeterminant", "MatrixInverse",
    "MatrixSolve", "MatrixTriangularSolve", "Ndtri", "NextAfter", "Polygamma", "PopulationCount", "PyFunc",
    "Qr", "RGBToHSV", "ResizeArea", "ResizeBicubic", "ScaleAndTranslate", "SelfAdjointEigV2", "SparseTensorDenseMatMul",
    "StatelessCase", "StringLength", "Svd", "TruncateMod", "Zeta",
)  # fmt: skip
_NOT_IN_LITERT = (
    "Acos", "Acosh", "AdjustContrastv2", "AdjustHue", "AsString", "Asin", "Asinh", "Atan", "Atanh", "AvgPool3D",
    "CTCGreedyDecoder", "Cosh", "CropAndResize", "Cumprod", "DenseBincount", "DynamicPartition",
    "ExtractImagePatches", "FFT", "LeftShift", "MatrixDiagPartV3", "MaxPool3D", "MaxPoolWithArgmax", "PrintV2",
    "QuantizeAndDequantizeV4", "RaggedTensorToTensor", "SegmentMean", "Sinh", "StringFormat",
    "StringToNumber", "Tan", "TensorScatterMax",
)  # fmt: skip
_NOT_IN_ONNX = (
    "ApproxTopK", "Bitcast", "Bucketize", "L2Loss", "Lgamma", "Real", "SparseMatMul", "Xdivy", "Xlog1py",
    "Xlogy",
)  # fmt: skip
#: Operations of which a format has no form, or a wrong one.
_WITHOUT = {
    **dict.fromkeys(_IN_NEITHER, ("LiteRT", "ONNX")),
    **dict.fromkeys(_NOT_IN_LITERT, ("LiteRT",)),
    **dict.fromkeys(_NOT_IN_ONNX, ("ONNX",)),
}
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
    patterns = layer_patterns(model)
    others = [patterns[id(found.layer)] for found in hooks_of(model) if _bits(found) - set(_BITS)]
    if others:
        raise ValueError(
            f"LiteRT holds activations in 8 or 16 bits; {listed(others)} of {model.name!r} have other bits. They can "
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
    patterns = layer_patterns(model)
    without = [found.layer for found in hooks_of(model) if 16 in _bits(found) and not _has_int16_form(found.layer)]
    if without:
        in_float = [patterns[id(layer)] for layer in without if _not_in_8_bits_either(layer)]
        others = [patterns[id(layer)] for layer in without if not _not_in_8_bits_either(layer)]
        override = ", ".join(f"{name!r}: {{'activation_bits': 8}}" for name in others)
        advice = []
        if others:
            advice.append(f"give {listed(others)} 8 bits, override={{{override}}}")
        if in_float:
            advice.append(f"leave {listed(in_float)} in float, exclude={in_float}")
        named = listed([patterns[id(layer)] for layer in without])
        raise ValueError(
            f"LiteRT's converter has no int16 form of {named} in {model.name!r} (sigmoid, softmax, tanh and "
            "what is made of them, PReLU, concatenations, averages of tensors): "
            f"{'; '.join(advice)}{'. Or leave all of them in float with exclude' if others else ''}."
        )


def check_policies(model: Any) -> None:
    """Checks that a model's variables are float32, as quantizing and all files need.

    Args:
        model: a built model.

    Raises:
        ValueError: some layers have a dtype policy of other variables; the message names them and what to do.
    """
    leaves = [leaf for leaf in leaves_of(model)[0] if isinstance(leaf, keras.layers.Layer)]  # not bare operations
    found = {leaf.name: policy_of(leaf).name for leaf in leaves if _variables_differ(policy_of(leaf))}
    if found:
        raise ValueError(
            f"{listed(list(found))} of {model.name!r} have the dtype policy {', '.join(sorted(set(found.values())))}, "
            "and quantizing needs variables in float32. Build the model under the policy 'float32', or "
            "'mixed_float16' or 'mixed_bfloat16' to train in half precision, and load its weights."
        )


def check_stateless(model: Any) -> None:
    """Checks that a model gives the same for the same images.

    Args:
        model: a built model.

    Raises:
        ValueError: a recurrent layer keeps its state; the message names it and what to do.
    """
    found = [one.name for one in model._flatten_layers() if isinstance(one, keras.layers.RNN) and one.stateful]
    if found:
        raise ValueError(f"{listed(found)} of {model.name!r} {_NO_FUNCTION[_ASSIGNING]}")


def check_repeatable(trace: Trace, *, to_train: bool = False) -> None:
    """Checks that a traced model gives the same for the same images.

    Args:
        trace: the traced model.
        to_train: it is trained first. Batch norms that always train then warn only: a schedule may freeze them.

    Raises:
        ValueError: operations draw random numbers, or change variables; the message names them and what to do.
    """
    for kinds, reason in _NO_FUNCTION.items():
        found = trace.operations(*kinds)
        norms = [one for one in found if to_train and isinstance(one[1], keras.layers.BatchNormalization)]
        if norms:
            warnings.warn(f"{places(trace, norms)} {reason}", UserWarning, stacklevel=2)
        if others := [one for one in found if one not in norms]:
            raise ValueError(f"{places(trace, others)} {reason}")


def check_operations(trace: Trace, scheme: Scheme) -> None:
    """Checks that a file can hold the operations that a model computes in float.

    Warns where one format of the scheme has no form of some.

    Args:
        trace: the traced model.
        scheme: what it is quantized by.

    Raises:
        ValueError: no file can hold them, or they make each call another: the message names them and what to do.
    """
    check_repeatable(trace, to_train=True)
    lacking: dict[tuple[str, ...], list[Any]] = {}
    needed = trace.needed()
    for operation, layer in trace.operations(*_WITHOUT):
        if operation.name in needed and resized_in_float(layer) is None:
            names = tuple(name for name in _FORMATS[scheme.target] if name in _WITHOUT[operation.type])
            lacking.setdefault(names, []).append((operation, layer))
    for formats, found in lacking.items():
        types = ", ".join(sorted({operation.type for operation, _ in found}))
        others = [name for name in _FORMATS[scheme.target] if name not in formats]
        said = f"{places(trace, found)} computes {types}, of which {' and '.join(formats)} have no form"
        if formats and not others:
            raise ValueError(f"{said}. Replace it, or quantize and export the part of the model before it.")
        if formats:
            warnings.warn(f"{said}: replace it, or export to {others[0]} alone.", stacklevel=3)


def places(trace: Trace, found: list[Any]) -> str:
    """The layers that compute operations, or the operations' names: the subject of a message."""
    layers = {f"{type(layer).__name__} {layer.name!r}" for _, layer in found if layer is not None}
    bare = {f"{operation.name!r}, which is no layer," for operation, layer in found if layer is None}
    return f"{listed(sorted(layers) + sorted(bare))} of {trace.model.name!r}"


def check_integer_input(trace: Trace, scheme: Scheme) -> None:
    """Checks that a ``.tflite`` file of integers can take what the model takes; warns where only ONNX can.

    Args:
        trace: the traced model.
        scheme: what it is quantized by.

    Raises:
        ValueError: it takes integers such as tokens, and has activations of 16 bits, which ONNX has not either.
    """
    said = "" if scheme.target == "tensorrt" else integers_unread(trace)
    if said and scheme.activation_bits == 16:
        raise ValueError(f"{said} ONNX files have no 16 bits: quantize with 'edge_int8' for these.")
    if said:
        warnings.warn(said, UserWarning, stacklevel=3)


def integers_unread(trace: Trace) -> str:
    """Why a ``.tflite`` file of integers cannot take the integers that a model takes, and what to do; else nothing.

    Such a file's input is int8 of a range, not the numbers themselves. Where the model begins with rescaling, the
    runtime does that instead.

    Args:
        trace: the traced model.
    """
    given, dtype = trace.inputs[0], tf.nest.flatten(trace.signature)[0].dtype
    readers = [call.layer for call in trace.calls if any(one is given for one in call.inputs)]
    first = trace.only_consumer(given)
    rescaled = first is not None and isinstance(first.layer, (keras.layers.Rescaling, keras.layers.Normalization))
    if len(trace.inputs) != 1 or dtype.is_floating or rescaled or not readers:
        return ""
    images = (
        "Build the model with Input(dtype='float32'), which takes the same images, or begin it with one Rescaling or "
        "Normalization layer: the runtime then rescales."
    )
    others = (
        "Export it to .onnx, or to .tflite in float, precision='float32', or quantize the part of the model after "
        "that layer alone."
    )
    return (
        f"{trace.model.name!r} takes {dtype.name} {'images' if given.shape.rank == 4 else 'values'}, and layer "
        f"{readers[0].name!r} at its start reads them as they are, which a .tflite file of integers cannot: its input "
        f"is rounded to a range. {images if given.shape.rank == 4 else others}"
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


def _variables_differ(policy: Any) -> bool:
    kind = str(policy.variable_dtype or "")
    return (kind.startswith(("float", "bfloat")) and kind != "float32") or getattr(
        policy, "quantization_mode", None
    ) is not None


def _bits(found: LayerHook) -> set[int]:
    return {quantizer.bits for quantizer in found.quantizers.values()}


def _has_int16_form(layer: Any) -> bool:
    activation = activation_name(layer)
    if activation is not None and activation not in _ACTIVATIONS_16:
        return False
    joins = (keras.layers.Concatenate, keras.layers.Average, keras.layers.PReLU)
    return not isinstance(layer, joins) and operation_name(layer) != "concatenate"


def _not_in_8_bits_either(layer: Any) -> bool:
    """Whether 8 bits between 16 do not help: one range for what is joined, or a result that is a step off."""
    return concatenates(layer) or isinstance(layer, keras.layers.PReLU)


def listed(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
