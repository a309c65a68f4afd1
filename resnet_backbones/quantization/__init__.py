"""Quantization-aware training and post-training quantization of whole Keras models."""

from resnet_backbones.quantization.engine import calibrate, quantize_aware, quantize_post_training
from resnet_backbones.quantization.hooks import hooks_of, quantizers_of
from resnet_backbones.quantization.model import quantization_of
from resnet_backbones.quantization.quantizers import ActivationQuantizer, KernelQuantizer
from resnet_backbones.quantization.rules import Rule, register_quantization_rule
from resnet_backbones.quantization.schedule import QuantizationSchedule
from resnet_backbones.quantization.schemes import Scheme, get_scheme, register_scheme

__all__ = [
    "ActivationQuantizer",
    "KernelQuantizer",
    "QuantizationSchedule",
    "Rule",
    "Scheme",
    "calibrate",
    "get_scheme",
    "hooks_of",
    "quantization_of",
    "quantize_aware",
    "quantize_post_training",
    "quantizers_of",
    "register_quantization_rule",
    "register_scheme",
]
