"""The catalogue: importing it registers the library's own backbones and blocks. Knows no Keras."""

from __future__ import annotations

from resnet_backbones.backbones import published as sources
from resnet_backbones.backbones.block_registry import register_block
from resnet_backbones.backbones.darknet import variants as darknet
from resnet_backbones.backbones.mobilenet.variants import efficientnet_lite, mobilenetv2, mobilenetv3
from resnet_backbones.backbones.registry import register_backbone
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

_BLOCKS = "resnet_backbones.backbones.resnet"
register_block("basic", f"{_BLOCKS}.basic:basic", expansion=1)
register_block("bottleneck", f"{_BLOCKS}.bottleneck:bottleneck", expansion=4)
register_block("preact_basic", f"{_BLOCKS}.preact_basic:preact_basic", expansion=1, preactivation=True)
register_block("preact_bottleneck", f"{_BLOCKS}.preact_bottleneck:preact_bottleneck", expansion=4, preactivation=True)
register_block("bottle2neck", f"{_BLOCKS}.bottle2neck:bottle2neck", expansion=4)

for _family in (
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
):
    for _name, _variant in _family.VARIANTS.items():
        register_backbone(
            _name,
            _variant.spec,
            aliases=_variant.aliases,
            description=_variant.description,
            family=_variant.family,
            paper=_variant.paper,
            input_size=_variant.input_size,
            preprocessing=_variant.preprocessing,
            weights=sources.of(_name),
        )
