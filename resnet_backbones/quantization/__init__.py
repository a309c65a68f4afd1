"""Quantization-aware training and post-training quantization of whole Keras models."""

from resnet_backbones.quantization.analysis import analyse
from resnet_backbones.quantization.analysis.suggestions import suggest_exclusions
from resnet_backbones.quantization.api import quantize_aware, quantize_post_training
from resnet_backbones.quantization.backup import TrainingBackup
from resnet_backbones.quantization.calibration import calibrate
from resnet_backbones.quantization.context import use_view
from resnet_backbones.quantization.hooks import hooks_of, quantizers_of
from resnet_backbones.quantization.model import quantization_of
from resnet_backbones.quantization.observers import MSE, MinMax, MovingAverage, Observer, Percentile
from resnet_backbones.quantization.placement.selection import layer_paths
from resnet_backbones.quantization.quantizers import ActivationQuantizer, KernelQuantizer
from resnet_backbones.quantization.rules import Rule, register_quantization_rule
from resnet_backbones.quantization.schedule import QuantizationSchedule
from resnet_backbones.quantization.sparsity import KeepSparsity
from resnet_backbones.quantization.strip import strip_quantization
from resnet_backbones.quantization.summary import is_quantized, quantization_summary
from resnet_backbones.schemes import Scheme, get_scheme, register_scheme

__all__ = [
    "MSE",
    "ActivationQuantizer",
    "KeepSparsity",
    "KernelQuantizer",
    "MinMax",
    "MovingAverage",
    "Observer",
    "Percentile",
    "QuantizationSchedule",
    "Rule",
    "Scheme",
    "TrainingBackup",
    "analyse",
    "calibrate",
    "get_scheme",
    "hooks_of",
    "is_quantized",
    "layer_paths",
    "quantization_of",
    "quantization_summary",
    "quantize_aware",
    "quantize_post_training",
    "quantizers_of",
    "register_quantization_rule",
    "register_scheme",
    "strip_quantization",
    "suggest_exclusions",
    "use_view",
]
