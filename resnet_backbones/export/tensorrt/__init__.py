"""TensorRT without TensorRT: does an ONNX file follow its rules? And with it: an engine, built and timed.

:func:`check` needs ``onnx`` only (``pip install "resnet-backbones[onnx]"``) and imports no TensorFlow.
"""

from resnet_backbones.export.tensorrt.build import BuildReport, TensorRTMissingError, build
from resnet_backbones.export.tensorrt.check import CheckReport, check
from resnet_backbones.export.tensorrt.findings import Finding

__all__ = ["BuildReport", "CheckReport", "Finding", "TensorRTMissingError", "build", "check"]
