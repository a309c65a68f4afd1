"""Recurrent layers, whose loops tf2onnx cannot place, step by step in the graph they stand in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from resnet_backbones.keras_compat import keras
from resnet_backbones.keras_compat.models import step_by_step
from resnet_backbones.quantization.hooks import own_call, own_calls_replaced
from resnet_backbones.quantization.interception import called_with

_OPTIMISED = "_could_use_gpu_kernel"  # of tf_keras: a function of its own in place of the loop


@contextlib.contextmanager
def recurrent_layers_unrolled(model: Any) -> Iterator[None]:
    """Within it, the model's recurrent layers are traced as if they were built with ``unroll=True``.

    Args:
        model: a built model, whose sequences have a fixed length.
    """
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)]
    with step_by_step(), own_calls_replaced((layer, _unrolled(own_call(layer))) for layer in layers):
        yield


def _unrolled(own: Any) -> Any:
    return lambda layer, *args, **kwargs: called_with(layer, {"unroll": True, _OPTIMISED: False}, own, *args, **kwargs)
