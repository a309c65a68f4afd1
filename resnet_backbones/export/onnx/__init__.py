"""ONNX files, for TensorRT and for ONNX Runtime."""

from resnet_backbones.export.onnx.emitter import check, emit, runner, timer, write
from resnet_backbones.export.onnx.tensors import intermediates

__all__ = ["check", "emit", "intermediates", "runner", "timer", "write"]
