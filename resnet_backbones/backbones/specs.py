"""Specs: a frozen dataclass says everything about a backbone. Knows no Keras."""

from resnet_backbones.backbones.darknet.spec import DarkNetSpec
from resnet_backbones.backbones.mobilenet.spec import MobileNetSpec, MobileStage
from resnet_backbones.backbones.regnet.spec import RegNetSpec
from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.backbones.spec import BackboneSpec, BlockPlan, spec_from_dict
from resnet_backbones.backbones.spec_values import PREPROCESSINGS, Preprocessing

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
