"""Ranges under ``tf.distribute``: one range for all replicas, from the smallest and largest value any of them saw.

Averaging the replicas' bounds, as variables usually are, would clip: maxima of 10 and 100 would give 55.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from resnet_backbones.keras_compat import float32_variable


def bounds_over_replicas(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The smallest ``low`` and the largest ``high`` of all replicas; outside of a strategy's ``run``, what was given.

    TensorFlow reduces over replicas by sum and mean only, so each replica fills its own row of a table of zeros, the
    tables are summed, and the extremes are taken of what is then the same table on every replica.

    Args:
        low: float32 scalar.
        high: float32 scalar. NaN or infinity in either, on one replica, makes both NaN on all.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return low, high
    own_row = tf.range(replica.num_replicas_in_sync) == replica.replica_id_in_sync_group
    table = tf.where(own_row[:, None], tf.stack([low, high])[None], 0.0)
    table = replica.all_reduce(tf.distribute.ReduceOp.SUM, table)
    poisoned = tf.reduce_sum(table - table)  # 0, or NaN if anything is not finite
    return tf.reduce_min(table[:, 0]) + poisoned, tf.reduce_max(table[:, 1]) + poisoned


def scope_of(layers: Iterable[Any]) -> contextlib.AbstractContextManager[Any]:
    """The scope of the strategy that made the layers' variables, to make further ones in.

    Args:
        layers: built layers.

    Returns:
        A context manager; one that does nothing if no variable belongs to a strategy.
    """
    for layer in layers:
        for weight in layer.weights:
            strategy = getattr(float32_variable(weight), "distribute_strategy", None)
            if strategy is not None and strategy is not tf.distribute.get_strategy():
                return strategy.scope()
    return contextlib.nullcontext()
