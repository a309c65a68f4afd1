"""Where ``fit`` and optimizers of Keras 3 and tf_keras differ, for callbacks that save and restore training."""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_compat.running import IS_KERAS_3


def optimizer_variables(model: Any) -> list[Any]:
    """Every variable of a compiled model's optimizer: iterations, learning rate, slots; made first if need be."""
    optimizer = model.optimizer
    with model.distribute_strategy.scope():
        if hasattr(optimizer, "_create_all_weights"):  # tf_keras' legacy optimizers
            optimizer._create_all_weights(model.trainable_variables)
            settings = (value for _, value in sorted(optimizer._hyper.items()) if hasattr(value, "assign"))
            return [*optimizer.variables(), *settings]
        optimizer.build(model.trainable_variables)
        return list(optimizer.variables)


def random_states(model: Any) -> list[Any]:
    """The variables that random layers, such as dropout, draw their numbers from."""
    if IS_KERAS_3:
        return []  # among the model's own variables
    sources = (getattr(layer, "_random_generator", None) for layer in model._flatten_layers())
    generators = (getattr(source, "_generator", None) for source in sources)
    return [generator.state for generator in generators if generator is not None]


def unrepeatable_layers(model: Any) -> list[str]:
    """Names of random layers whose random numbers cannot be saved: tf_keras' default ones."""
    if IS_KERAS_3:
        return []
    return [
        layer.name
        for layer in model._flatten_layers()
        if getattr(getattr(layer, "_random_generator", None), "_rng_type", None) == "legacy_stateful"
        and getattr(layer, "rate", 1.0) != 0
    ]


def begin_fit_at(model: Any, epoch: int | None) -> None:
    """Said in ``on_train_begin``: which epoch the running ``fit`` begins with. ``None``: the one it was given."""
    if IS_KERAS_3:
        model._initial_epoch = epoch
    else:
        model._training_state = None if epoch is None else _FirstEpoch(epoch)


class _FirstEpoch:
    """What tf_keras' ``fit`` asks for where to begin, in place of its own worker's state."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def maybe_load_initial_counters_from_ckpt(self, *_args: Any, **_kwargs: Any) -> tuple[int, int]:
        return self.epoch, 0


def steps_per_execution(model: Any) -> int:
    """How many steps one call of a compiled model's train function makes."""
    value = model.steps_per_execution if IS_KERAS_3 else model._steps_per_execution
    return int(value.numpy()) if hasattr(value, "numpy") else int(value)
