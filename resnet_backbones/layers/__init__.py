"""Keras layers for use on their own in any model."""

from resnet_backbones.layers.residual_block import ResidualBlock

__all__ = ["ResidualBlock"]
