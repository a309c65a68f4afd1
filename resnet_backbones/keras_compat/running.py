"""Which Keras is running.

Keras 3 is the default; ``TF_USE_LEGACY_KERAS=1`` in the environment, set before the first import, chooses tf_keras
(Keras 2). Everything else in this library asks this package, never the environment.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from resnet_backbones.errors import missing

IS_KERAS_3: bool = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() not in ("1", "true")

try:
    if IS_KERAS_3:
        import keras
    else:
        import tf_keras as keras  # type: ignore[no-redef]
except ImportError as error:
    what = "All that builds, trains or exports models"
    raise missing(what, "TensorFlow with Keras" if IS_KERAS_3 else "tf_keras", "tensorflow", error) from error

PACKAGE = "resnet_backbones"


def _ops() -> Any:
    """The few operations our own layers use: ``keras.ops``, and for tf_keras TensorFlow's by the same names."""
    if IS_KERAS_3:
        return keras.ops
    import tensorflow as tf

    def depthwise_conv(inputs, kernel, strides, padding, data_format):
        del data_format  # tf.nn's is the default
        return tf.nn.depthwise_conv2d(inputs, kernel, [1, strides, strides, 1], padding.upper())

    return SimpleNamespace(
        all=tf.reduce_all,
        cast=tf.cast,
        convert_to_tensor=tf.convert_to_tensor,
        depthwise_conv=depthwise_conv,
        max=tf.reduce_max,
        mean=tf.reduce_mean,
        ones_like=tf.ones_like,
        pad=tf.pad,
        where=tf.where,
    )


ops = _ops()

# tf_keras always runs on TensorFlow; Keras 3 on what KERAS_BACKEND or its configuration file says.
ON_TENSORFLOW: bool = not IS_KERAS_3 or keras.backend.backend() == "tensorflow"

# tf_keras trains batch norm with TensorFlow's fused kernel; Keras 3 does not, see layers/batch_norm.py.
KERAS_FUSES_BATCH_NORM: bool = not IS_KERAS_3


def keras_name() -> str:
    """The running Keras with its version, e.g. ``"Keras 3.15.1"`` or ``"tf_keras 2.21.0"``."""
    return f"{'Keras' if IS_KERAS_3 else 'tf_keras'} {keras.__version__}"


def saved_model_folders() -> Any:
    """The module of tf_keras that knows how it writes SavedModel folders."""
    from tf_keras.src.saving.legacy.saved_model import utils

    return utils


def serializable(name: str | None = None):
    """Class decorator: registers a class as ``resnet_backbones>name`` for saving and loading."""
    return keras.saving.register_keras_serializable(package=PACKAGE, name=name)
