"""Specs: a frozen dataclass says everything about a backbone. Knows no Keras."""

from resnet_backbones.specs.base import BackboneSpec, BlockPlan, spec_from_dict
from resnet_backbones.specs.darknet import DarkNetSpec
from resnet_backbones.specs.mobilenet import MobileNetSpec, MobileStage
from resnet_backbones.specs.preprocessing import PREPROCESSINGS, Preprocessing
from resnet_backbones.specs.regnet import RegNetSpec
from resnet_backbones.specs.resnet import ResNetSpec

__all__ = [
    "PREPROCESSINGS",
    "BackboneSpec",
    "BlockPlan",
    "DarkNetSpec",
    "MobileNetSpec",
    "MobileStage",
    "Preprocessing",
    "RegNetSpec",
    "ResNetSpec",
    "spec_from_dict",
]
