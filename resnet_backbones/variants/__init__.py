"""The catalogue: importing it registers the library's own backbones and blocks. Knows no Keras."""

from __future__ import annotations

from resnet_backbones.block_registry import register_block
from resnet_backbones.registry import register_backbone
from resnet_backbones.variants.resnet import RESNETS

register_block("basic", "resnet_backbones.blocks.basic:basic", expansion=1)
register_block("bottleneck", "resnet_backbones.blocks.bottleneck:bottleneck", expansion=4)

for _name, (_spec, _description) in RESNETS.items():
    register_backbone(_name, _spec, description=_description)
