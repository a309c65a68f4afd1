"""Keras layers for use on their own in any model."""

from resnet_backbones.layers.batch_norm import BatchNormalization
from resnet_backbones.layers.residual import ResidualBlock, ResidualUpBlock

__all__ = ["BatchNormalization", "ResidualBlock", "ResidualUpBlock"]
