"""The library's own backbones: a plain table, name -> variant. Knows no Keras; the registry reads it."""

from __future__ import annotations

from resnet_backbones.backbones.darknet import variants as darknet
from resnet_backbones.backbones.mobilenet.variants import efficientnet_lite, mobilenetv2, mobilenetv3
from resnet_backbones.backbones.regnet import variants as regnet
from resnet_backbones.backbones.resnet.variants import (
    antialiased,
    attention,
    cifar,
    res2net,
    resnet,
    resnetrs,
    resnetv2,
    resnext,
)
from resnet_backbones.backbones.variant import Variant

CATALOGUE: dict[str, Variant] = {
    name: variant
    for family in (
        resnet,
        resnetv2,
        cifar,
        resnext,
        attention,
        res2net,
        resnetrs,
        antialiased,
        regnet,
        darknet,
        mobilenetv2,
        mobilenetv3,
        efficientnet_lite,
    )
    for name, variant in family.VARIANTS.items()
}
