"""Keras layers for use on their own in any model."""

from resnet_backbones.layers.batch_norm import BatchNormalization
from resnet_backbones.layers.residual_block import ResidualBlock
from resnet_backbones.layers.residual_up_block import ResidualUpBlock

__all__ = ["BatchNormalization", "ResidualBlock", "ResidualUpBlock"]
