"""ONNX files, for TensorRT and for ONNX Runtime."""

from resnet_backbones.export.onnx.emitter import check, emit, runner, timer, write

__all__ = ["check", "emit", "runner", "timer", "write"]
