"""TFMOT's quantizers, beside either Keras."""

from __future__ import annotations

import functools
import os
from typing import Any

from resnet_backbones.errors import missing


@functools.cache
def tfmot_quantizers() -> Any:
    """TFMOT's quantizer classes, imported without its side effects.

    Importing TFMOT sets ``TF_USE_LEGACY_KERAS=1`` for the whole process, which would turn a ``tf.keras`` not yet
    loaded, and with it KerasCV, to tf_keras. Here ``tf.keras`` is resolved first and the variable put back.

    Raises:
        ImportError: TFMOT is not installed; the message names the extra that brings it.
    """
    import tensorflow as tf

    _ = tf.keras.layers  # resolves the lazy module, once for the process
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        from tensorflow_model_optimization.quantization.keras import quantizers
    except ImportError as error:
        raise missing("Quantization", "TensorFlow Model Optimization", "quantization", error) from error
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
    return quantizers
