"""How far a quantized model's training has come: variables of the model, so that they are saved with it."""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_compat import add_child, float32_variable, kept_in_checkpoints, keras, serializable

_CHILD = "schedule_state"
_SKIPPING = "_skipping_batches"


@serializable("ScheduleState")
class ScheduleState(keras.layers.Layer):
    """Counts the epochs and steps that a quantized model was trained under a ``QuantizationSchedule``.

    Attributes:
        epochs: the number of the next epoch, as the schedule counts them; an int64 variable.
        steps: steps trained, over all fits; an int64 variable.
        unfinished: the "epoch" and "step" that a schedule has seen begin and not end.
    """

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.unfinished: frozenset[str] = frozenset()

    def build(self, input_shape=None) -> None:
        if not self.built:
            for name in ("epochs", "steps"):
                counter = self.add_weight(name=name, shape=(), initializer="zeros", trainable=False, dtype="int64")
                self.__dict__[name] = kept_in_checkpoints(self, name, float32_variable(counter))
            self.built = True

    def call(self, inputs):
        return inputs


def add_schedule_state(layer: Any) -> None:
    """Hangs the counters on a layer of the model, if it has none yet.

    A layer that is quantized, not the model: tf_keras writes a functional model's child layers into its configuration.
    """
    if not isinstance(getattr(layer, _CHILD, None), ScheduleState):
        state = ScheduleState(name=f"{layer.name}_{_CHILD}")
        state.build()
        add_child(layer, _CHILD, state)


def schedule_states_of(model: Any) -> list[ScheduleState]:
    """The counters below a model: one, or one more for each model inside it that was quantized before it."""
    return [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, ScheduleState)]


def set_skipping(model: Any, skipping: bool) -> None:
    """Says that the batches ``fit`` now reads are passed over, as after resuming within an epoch."""
    model.__dict__[_SKIPPING] = skipping


def is_skipping(model: Any) -> bool:
    """Whether the batches ``fit`` now reads are passed over without training."""
    return bool(model.__dict__.get(_SKIPPING, False))
