"""What each engine takes, checked before a file is made."""

from __future__ import annotations

from typing import Any

from resnet_backbones.quantization import quantization_of
from resnet_backbones.quantization.hooks import hooks_of
from resnet_backbones.quantization.placement.selection import layer_labels

TARGETS = ("tensorrt", "onnxruntime")


def check_target(model: Any, target: str) -> None:
    """Checks that an engine can run a quantized model as it was trained.

    Args:
        model: a quantized model.
        target: ``"tensorrt"`` or ``"onnxruntime"``.

    Raises:
        ValueError: activations of other than 8 bits, or, for TensorRT, ranges where its layers fuse.
    """
    labels = layer_labels(model)
    hooks = [found for found in hooks_of(model) if any(one.bits != 8 for one in found.quantizers.values())]
    others = [labels[id(found.layer)] for found in hooks]
    if others:
        shown = f"{', '.join(others[:5])}{' and others' if len(others) > 5 else ''}"
        raise ValueError(
            f"ONNX files hold activations in 8 bits; {shown} of {model.name!r} have other bits. Quantize with "
            "activation_bits 8, or export to LiteRT, which has 16."
        )
    scheme = quantization_of(model)["scheme"]  # type: ignore[index]
    if target == "tensorrt" and scheme["target"] == "litert":
        zero_points = "" if scheme["symmetric_activations"] else " and have zero points, which it does not know"
        raise ValueError(
            f"{model.name!r} is quantized with {scheme['name']!r}, whose ranges stand between layers that TensorRT "
            f"fuses{zero_points}. Quantize with 'gpu_int8' for TensorRT or 'portable_int8' for LiteRT and TensorRT, or "
            "export with target='onnxruntime'."
        )
