"""The class a quantized model takes on, so that saving and loading know about its quantizers.

Quantizing swaps the model's class for a subclass of it. The subclass numbers the calls of shared layers and writes
the quantizers' places into its configuration; ``from_config`` builds the float model, puts the quantizers back and
lets Keras load weights and ranges.

Ranges must not get lost on the way without a word. A quantized layer refuses to give a configuration of its own, from
which Keras would build a float one (``clone_model``, or saving a float model that took the layer over), and a file of
weights says what was quantized, so that a float model, or one quantized otherwise, refuses it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import threading
import warnings
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from resnet_backbones.keras_compat import IS_KERAS_3, is_writing_saved_model, keras
from resnet_backbones.keras_compat.operations import is_operation
from resnet_backbones.quantization import context
from resnet_backbones.quantization.attach import attach
from resnet_backbones.quantization.hooks import hooks_of
from resnet_backbones.quantization.placement.sites import placement_from_dict
from resnet_backbones.quantization.trace import Trace
from resnet_backbones.quantization.weights_check import check_description, weights_description
from resnet_backbones.schemes import Scheme

_QUANTIZATION = "_quantization"
_SAVED_MODEL = (
    "keras.models.load_model cannot load a SavedModel of it. model.export(folder) writes one that runs with "
    "tf.saved_model.load(folder); model.save('name.keras') keeps the quantized model, to load, train on or export."
)
_DESCRIPTION = "quantization"  # among the model's own variables in a file of weights
_quantized_models: weakref.WeakSet[Any] = weakref.WeakSet()


def quantization_of(model: Any) -> dict[str, Any] | None:
    """What was quantized in the model, as plain values; ``None`` for a float model."""
    return model.__dict__.get(_QUANTIZATION)


def describes_all_ranges(model: Any) -> bool:
    """Whether the layers of a quantized model have no ranges but those it knows of, and would be saved with."""
    described = sum(len(site["points"]) for site in model.__dict__[_QUANTIZATION]["sites"])
    return described == sum(len(found.quantizers) for found in hooks_of(model))


class QuantizedModel:
    """Mixed into the class of every quantized model, before its own class."""

    def call(self, *args, **kwargs):
        with context.one_pass(kwargs.get("training")):
            return super().call(*args, **kwargs)  # type: ignore[misc]

    def train_step(self, *args, **kwargs):
        with context.train_step():
            return super().train_step(*args, **kwargs)  # type: ignore[misc]

    if not IS_KERAS_3:

        def save(self, filepath: Any, *args: Any, save_format: str | None = None, **kwargs: Any) -> None:
            """Saves the model; a SavedModel, which Keras could not load again, is refused."""
            if save_format == "tf" or (save_format is None and not str(filepath).endswith((".keras", ".h5", ".hdf5"))):
                raise NotImplementedError(f"Model {self.name!r} is quantized: {_SAVED_MODEL}")  # type: ignore[attr-defined]
            super().save(filepath, *args, save_format=save_format, **kwargs)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        quantization = quantization_of(self)
        if quantization is None:
            raise NotImplementedError(
                f"Model {self.name!r} was made out of layers of a quantized model without its quantization. "  # type: ignore[attr-defined]
                "quantize_aware(model) completes it; then it can be saved and copied."
            )
        if not _state.whole_model and not describes_all_ranges(self):
            raise NotImplementedError(
                f"Model {self.name!r} is part of a model that was quantized after it, with further ranges in its "  # type: ignore[attr-defined]
                "layers, which a copy or file of this part would lose. Save the whole model, or call "
                "strip_quantization on it and quantize this part by itself."
            )
        if is_writing_saved_model():  # by keras.models.save_model
            warnings.warn(f"Model {self.name!r} is quantized: {_SAVED_MODEL}", stacklevel=2)  # type: ignore[attr-defined]
        quantized_class = type(self)
        self.__class__ = quantized_class._float_class  # type: ignore[attr-defined]
        try:
            with _whole_model():
                model = keras.saving.serialize_keras_object(self)
        finally:
            self.__class__ = quantized_class
        model.pop("compile_config", None)  # Keras saves it once, for the quantized model
        return {"model": model, "quantization": dict(quantization)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects=custom_objects)
        quantization = config["quantization"]
        trace = Trace(model, quantization=quantization)
        if len(trace.calls) != quantization["calls"]:
            raise ValueError(
                f"The saved quantization is of a model with {quantization['calls']} layer calls; rebuilt, it has "
                f"{len(trace.calls)}. It was saved with other versions of Keras or of the task's library."
            )
        attach(trace, placement_from_dict(quantization), Scheme(**quantization["scheme"]))
        return as_quantized_model(model, quantization)

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Nothing: ``from_config`` gives a built model, and tf_keras would have it make its weights a second time."""

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)  # type: ignore[misc]
        described = json.dumps(weights_description(quantization_of(self) or {}))
        store[_DESCRIPTION] = np.frombuffer(described.encode(), np.uint8)

    def load_own_variables(self, store: Any) -> None:
        found = bytes(np.asarray(store[_DESCRIPTION])).decode() if _DESCRIPTION in set(store.keys()) else None
        check_description(self, None if found is None else json.loads(found))
        own = {key: store[key] for key in set(store.keys()) - {_DESCRIPTION}}
        super().load_own_variables(own)  # type: ignore[misc]

    def __reduce__(self) -> Any:
        """Pickles and copies as Keras does, whichever class the quantized one was made of."""
        if not IS_KERAS_3:
            return super().__reduce__()
        archive = super().__reduce__()[1][0]
        return _unpickled, (archive, type(self)._float_class)  # type: ignore[attr-defined]


def _unpickled(archive: Any, *_: type) -> Any:
    """The model of a pickle made in Keras 3; the float class, named in it, is imported and so known by then."""
    importlib.import_module("resnet_backbones.backbones.model")  # what a task may hold
    return keras.Model._unpickle_model(archive)


def as_quantized_model(model: Any, quantization: dict[str, Any]) -> Any:
    """Swaps the model's class for its quantized subclass, in place, and drops functions traced before."""
    if quantization_of(model) is None:
        base = getattr(type(model), "_float_class", type(model))
        namespace = {"_float_class": base, "__module__": __name__, "__doc__": base.__doc__}
        model.__class__ = type("QuantizedModel", (QuantizedModel, base), namespace)
    model.__dict__[_QUANTIZATION] = quantization
    _quantized_models.add(model)
    for found in hooks_of(model):
        if is_operation(found.layer):  # writes its configuration by itself only where nothing stands in its place
            continue
        found.layer.__dict__["get_config"] = partial(_config_of, found.layer)
    drop_traced_functions(model)
    return model


def as_float_model(model: Any) -> Any:
    """Takes back :func:`as_quantized_model`: the model is of its own class again. A float model stays as it is."""
    if isinstance(model, QuantizedModel):
        model.__class__ = type(model)._float_class  # type: ignore[attr-defined]
        del model.__dict__[_QUANTIZATION]
        _quantized_models.discard(model)
        drop_traced_functions(model)
    return model


def quantized_models() -> list[Any]:
    """Every living model of a quantized class, also those that no other model holds."""
    return list(_quantized_models)


def drop_traced_functions(model: Any) -> None:
    """Lets a model build its train, test and predict steps anew: traced ones do not see that layers changed."""
    for function in ("train_function", "test_function", "predict_function"):
        if getattr(model, function, None) is not None:
            setattr(model, function, None)


@contextlib.contextmanager
def _whole_model() -> Iterator[None]:
    """Within it, layers give their configuration: that of the model says what is quantized."""
    before, _state.whole_model = _state.whole_model, True
    try:
        yield
    finally:
        _state.whole_model = before


class _State(threading.local):
    whole_model = False


_state = _State()


def _config_of(layer: Any) -> dict[str, Any]:
    """A quantized layer's ``get_config``: its own, but only as part of a model that says what is quantized."""
    if _state.whole_model:
        return type(layer).get_config(layer)
    raise NotImplementedError(
        f"Layer {layer.name!r} is quantized, and a copy made from its own configuration would silently be a float one. "
        "To copy a quantized model, use copy.deepcopy(model) or save and load it; for a float copy call "
        "strip_quantization(model) first; a float model built on a quantized backbone's tensors is completed by "
        "quantize_aware(model)."
    )


keras.saving.get_custom_objects()["QuantizedModel"] = QuantizedModel
