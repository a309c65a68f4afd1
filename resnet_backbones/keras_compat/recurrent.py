"""How recurrent layers go through their steps."""

from __future__ import annotations

import functools
from typing import Any

from resnet_backbones.keras_compat.running import IS_KERAS_3, keras


def step_by_step() -> tuple[dict[str, Any], str, Any] | None:
    """What to replace so that recurrent layers without ``unroll``, as tf_keras' convolutional ones, have no loop.

    Returns:
        A namespace, a name in it and its value; ``None`` in Keras 3, whose layers all have ``unroll``.
    """
    if IS_KERAS_3:
        return None
    backend = vars(keras.src.backend)
    return backend, "rnn", functools.partial(backend["rnn"], unroll=True)
