"""Recurrent layers, whose loops tf2onnx cannot place, step by step in the graph they stand in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from resnet_backbones.keras_compat import keras
from resnet_backbones.keras_compat.models import step_by_step
from resnet_backbones.quantization.hooks import item_replaced

_OPTIMISED = "_could_use_gpu_kernel"  # of tf_keras: a function of its own in place of the loop


@contextlib.contextmanager
def recurrent_layers_unrolled(model: Any) -> Iterator[None]:
    """Within it, the model's recurrent layers are traced as if they were built with ``unroll=True``.

    Args:
        model: a built model, whose sequences have a fixed length.
    """
    with contextlib.ExitStack() as replaced:
        if (without_unroll := step_by_step()) is not None:
            replaced.enter_context(item_replaced(*without_unroll))
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.RNN):
                replaced.enter_context(item_replaced(layer.__dict__, "unroll", True))
                if _OPTIMISED in layer.__dict__:
                    replaced.enter_context(item_replaced(layer.__dict__, _OPTIMISED, False))
        yield
