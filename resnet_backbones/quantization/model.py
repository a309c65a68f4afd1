"""The class a quantized model takes on, so that saving and loading know about its quantizers.

Quantizing swaps the model's class for a subclass of it. The subclass numbers the calls of shared layers and writes
the quantizers' places into its configuration; ``from_config`` builds the float model, puts the quantizers back and
lets Keras load weights and ranges.
"""

from __future__ import annotations

from typing import Any

from resnet_backbones.keras_api import keras
from resnet_backbones.quantization import context
from resnet_backbones.quantization.placement import placement_from_dict
from resnet_backbones.quantization.schemes import Scheme
from resnet_backbones.quantization.trace import Trace

_QUANTIZATION = "_quantization"


def quantization_of(model: Any) -> dict[str, Any] | None:
    """What was quantized in the model, as plain values; ``None`` for a float model."""
    return model.__dict__.get(_QUANTIZATION)


class QuantizedModel:
    """Mixed into the class of every quantized model, before its own class."""

    def call(self, *args, **kwargs):
        with context.one_pass():
            return super().call(*args, **kwargs)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        quantized_class = type(self)
        self.__class__ = quantized_class._float_class  # type: ignore[attr-defined]
        try:
            model = keras.saving.serialize_keras_object(self)
        finally:
            self.__class__ = quantized_class
        model.pop("compile_config", None)  # Keras saves it once, for the quantized model
        return {"model": model, "quantization": dict(quantization_of(self) or {})}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        from resnet_backbones.quantization.engine import apply_placement  # engine imports this module

        model = keras.saving.deserialize_keras_object(config["model"], custom_objects=custom_objects)
        quantization = config["quantization"]
        trace = Trace(model)
        if len(trace.calls) != quantization["calls"]:
            raise ValueError(
                f"The saved quantization is of a model with {quantization['calls']} layer calls; rebuilt, it has "
                f"{len(trace.calls)}. It was saved with other versions of Keras or of the task's library."
            )
        apply_placement(trace, placement_from_dict(quantization), Scheme(**quantization["scheme"]))
        return as_quantized_model(model, quantization)


def as_quantized_model(model: Any, quantization: dict[str, Any]) -> Any:
    """Swaps the model's class for its quantized subclass, in place, and drops functions traced before."""
    if quantization_of(model) is None:
        base = type(model)
        namespace = {"_float_class": base, "__module__": __name__, "__doc__": base.__doc__}
        model.__class__ = type("QuantizedModel", (QuantizedModel, base), namespace)
    model.__dict__[_QUANTIZATION] = quantization
    for function in ("train_function", "test_function", "predict_function"):
        if getattr(model, function, None) is not None:
            setattr(model, function, None)
    return model


keras.saving.get_custom_objects()["QuantizedModel"] = QuantizedModel
