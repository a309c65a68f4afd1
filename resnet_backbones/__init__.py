"""Residual backbones for Keras that train quantized, whole detectors included, and export to int8.

Names are loaded when first used (PEP 562): ``import resnet_backbones`` and ``list_backbones()`` import no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# name -> module it lives in
_NAMES = {
    "Backbone": "backbones.model",
    "BackboneInfo": "backbones.info",
    "BackboneSpec": "backbones.spec",
    "DarkNetSpec": "backbones.darknet.spec",
    "ExportReport": "export",
    "FeatureInfo": "backbones.features",
    "KeepSparsity": "quantization",
    "MobileNetSpec": "backbones.mobilenet.spec",
    "MobileStage": "backbones.mobilenet.spec",
    "Preprocessing": "backbones.spec_values",
    "QuantizationSchedule": "quantization",
    "RegNetSpec": "backbones.regnet.spec",
    "ResNetSpec": "backbones.resnet.spec",
    "ResidualBlock": "layers",
    "ResidualUpBlock": "layers",
    "TrainingBackup": "quantization",
    "backbone_info": "backbones.info",
    "calibrate": "quantization",
    "create_backbone": "factory",
    "export_model": "export",
    "from_model": "backbones.model",
    "is_quantized": "quantization",
    "list_backbones": "backbones.info",
    "list_families": "backbones.info",
    "load_model": "saving",
    "quantization_summary": "quantization",
    "quantize_aware": "quantization",
    "quantize_post_training": "quantization",
    "register_backbone": "backbones.registry",
    "register_block": "backbones.block_registry",
    "register_quantization_rule": "quantization",
    "register_scheme": "schemes",
    "strip_quantization": "quantization",
}
_MODULES = ("adapters", "export", "quantization", "runtime", "weights")

__all__ = [
    "Backbone",
    "BackboneInfo",
    "BackboneSpec",
    "DarkNetSpec",
    "ExportReport",
    "FeatureInfo",
    "KeepSparsity",
    "MobileNetSpec",
    "MobileStage",
    "Preprocessing",
    "QuantizationSchedule",
    "RegNetSpec",
    "ResNetSpec",
    "ResidualBlock",
    "ResidualUpBlock",
    "TrainingBackup",
    "__version__",
    "adapters",
    "backbone_info",
    "calibrate",
    "create_backbone",
    "export",
    "export_model",
    "from_model",
    "is_quantized",
    "list_backbones",
    "list_families",
    "load_model",
    "quantization",
    "quantization_summary",
    "quantize_aware",
    "quantize_post_training",
    "register_backbone",
    "register_block",
    "register_quantization_rule",
    "register_scheme",
    "runtime",
    "strip_quantization",
    "weights",
]

if TYPE_CHECKING:
    __version__: str
    from resnet_backbones import adapters, export, quantization, runtime, weights
    from resnet_backbones.backbones.block_registry import register_block
    from resnet_backbones.backbones.darknet.spec import DarkNetSpec
    from resnet_backbones.backbones.features import FeatureInfo
    from resnet_backbones.backbones.info import BackboneInfo, backbone_info, list_backbones, list_families
    from resnet_backbones.backbones.mobilenet.spec import MobileNetSpec, MobileStage
    from resnet_backbones.backbones.model import Backbone, from_model
    from resnet_backbones.backbones.registry import register_backbone
    from resnet_backbones.backbones.regnet.spec import RegNetSpec
    from resnet_backbones.backbones.resnet.spec import ResNetSpec
    from resnet_backbones.backbones.spec import BackboneSpec
    from resnet_backbones.backbones.spec_values import Preprocessing
    from resnet_backbones.export import ExportReport, export_model
    from resnet_backbones.factory import create_backbone
    from resnet_backbones.layers import ResidualBlock, ResidualUpBlock
    from resnet_backbones.quantization import (
        KeepSparsity,
        QuantizationSchedule,
        TrainingBackup,
        calibrate,
        is_quantized,
        quantization_summary,
        quantize_aware,
        quantize_post_training,
        register_quantization_rule,
        register_scheme,
        strip_quantization,
    )
    from resnet_backbones.saving import load_model


def __getattr__(name: str) -> Any:
    if name in _NAMES or name in _MODULES:
        value = _import(name)
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # next time without this function
    return value


def _import(name: str) -> Any:
    """What a public name stands for; where TensorFlow is not installed, the error says how to install it."""
    try:
        module = importlib.import_module(f"{__name__}.{_NAMES.get(name, name)}")
        return getattr(module, name) if name in _NAMES else module
    except ModuleNotFoundError as error:
        from resnet_backbones.errors import missing

        if error.name not in ("tensorflow", "keras", "tf_keras"):
            raise
        raise missing(f"resnet_backbones.{name}", "TensorFlow with Keras", "tensorflow", error) from error


def _version() -> str:
    """The installed version; of a source tree that is not installed, the one it would install."""
    from importlib import metadata

    try:
        return metadata.version("resnet-backbones")
    except metadata.PackageNotFoundError:
        import tomllib
        from pathlib import Path

        settings = Path(__file__).resolve().parents[1] / "pyproject.toml"
        return tomllib.loads(settings.read_text())["project"]["version"] if settings.is_file() else "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
