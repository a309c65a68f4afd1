"""Weights for backbones: from files of this library, from timm (and torchvision) and from keras.applications.

Whatever does not fit raises ``WeightsMismatchError``, which lists everything missing, unexpected or of another shape,
and leaves the backbone as it was. Nothing is downloaded.
"""

from resnet_backbones.errors import WeightsMismatchError
from resnet_backbones.weights.files import load
from resnet_backbones.weights.keras_applications import from_keras_applications
from resnet_backbones.weights.timm import from_timm

__all__ = ["WeightsMismatchError", "from_keras_applications", "from_timm", "load"]
