"""What ``training`` a functional model runs with, where Keras 3 gets it wrong.

Keras 3.15 runs a model inside a functional one with the outer model's ``training``, whatever it was called with when
the outer one was built, ``backbone(x, training=False)``; and a layer such as ``Resizing`` or ``RandomFlip``, whose
``call`` has ``training=True`` by default, leaves that to the layers after it where the outer model is told nothing.
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_compat.models import is_writing_saved_model
from resnet_backbones.keras_compat.running import IS_KERAS_3, keras

_BUILT_WITH = "built_with_training"  # an argument that outer models keep for the call, and save


class KeepsTraining:
    """Mixed in before ``keras.Model``: a functional model that runs in the mode it was called with, as in tf_keras.

    Inside a functional model: what it was called with when that was built; else the outer model's mode, and inference
    where that is told nothing.
    """

    if IS_KERAS_3:

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            args, kwargs = args[:1], {**dict(zip(("training", "mask"), args[1:], strict=False)), **kwargs}
            symbolic = any(isinstance(value, keras.KerasTensor) for value in keras.tree.flatten((args, kwargs)))
            if _BUILT_WITH in kwargs:  # an outer model is run, or built again
                training = kwargs[_BUILT_WITH] if kwargs[_BUILT_WITH] is not None else kwargs.get("training")
                if not symbolic:
                    kwargs["training"] = False if training is None else training
            elif symbolic:
                kwargs[_BUILT_WITH] = kwargs.get("training")
            return super().__call__(*args, **kwargs)  # type: ignore[misc]

        def call(self, inputs: Any, training: Any = None, mask: Any = None, built_with_training: Any = None) -> Any:
            """The graph, in inference where nobody says otherwise: the layers in it are told so."""
            del built_with_training
            return super().call(inputs, training=False if training is None else training, mask=mask)  # type: ignore[misc]

        def compute_output_spec(self, inputs: Any, training: Any = None, mask: Any = None, **_: Any) -> Any:
            """The symbolic outputs for symbolic inputs."""
            return super().compute_output_spec(inputs, training=training, mask=mask)  # type: ignore[misc]

    else:

        @property
        def trainable(self) -> bool:
            """Whether it trains; set, its layers do alike."""
            return self._trainable

        @trainable.setter
        def trainable(self, value: bool) -> None:
            if is_writing_saved_model():  # or reads one: what was built has the layers' own
                self._trainable = value
            else:
                keras.Model.trainable.fset(self, value)
