"""What was changed on layers after they were made, as plain values, and how it is put back.

A backbone is saved as its spec, a task as its arguments: neither says that a layer was frozen, or that its activation,
epsilon or regularizer is another one now. :class:`LayersAsMade` notes the layers when they are new, tells what differs
when they are saved, and makes the same changes on new layers when they are loaded.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from resnet_backbones.keras_compat.models import rename, serialized_as_in_keras_files
from resnet_backbones.keras_compat.policies import policy_of, set_policy
from resnet_backbones.keras_compat.running import IS_KERAS_3, keras


def numbered(layers: Iterable[Any]) -> dict[str, Any]:
    """Layers by class and number within it (``"Conv2D 0"``): names that Keras counts up differ between processes."""
    counts: Counter[str] = Counter()
    found = {}
    for layer in layers:
        kind = type(layer).__name__
        found[f"{kind} {counts[kind]}"] = layer
        counts[kind] += 1
    return found


def named_with_parts(layers: Iterable[Any]) -> dict[str, Any]:
    """Layers by name; the layers inside a layer by its name, class and number (``"stage1_block1/Conv2D 0"``)."""
    found = {}
    for layer in layers:
        found[layer.name] = layer
        parts = numbered(layer._flatten_layers(include_self=False))
        found.update({f"{layer.name}/{key}": part for key, part in parts.items()})
    return found


class LayersAsMade:
    """Layers as they were when this was made.

    Args:
        layers: key -> layer.
        without_arguments: ids of layers of which only ``trainable`` is kept: something else saves their arguments.
    """

    def __init__(self, layers: Mapping[str, Any], without_arguments: Iterable[int] = ()) -> None:
        self._layers = dict(layers)
        without = set(without_arguments)
        self._noted = {
            key: _Noted(layer, with_arguments=id(layer) not in without) for key, layer in self._layers.items()
        }

    def changes(self, root: Any, remedy: str) -> dict[str, dict[str, Any]]:
        """Key -> what is different now, as JSON-able values: arguments by name, ``"trainable"``, ``"variables"``.

        Args:
            root: the model the layers are in. ``trainable`` is told where it differs from the model's own.
            remedy: for errors, what to do about a change that cannot be written down.

        Raises:
            NotImplementedError: a layer's weights have other shapes now, or it is of another class.
        """
        found = {key: self._noted[key].changes(layer, remedy) for key, layer in self._layers.items()}
        for key, layer in self._layers.items():
            if layer.trainable != root.trainable:
                found[key] = {"trainable": layer.trainable, **found[key]}
        return {key: change for key, change in found.items() if change}

    def change(self, root: Any, trainable: bool, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Makes the same changes on these layers, which are new.

        Args:
            root: the model the layers are in.
            trainable: the model's own ``trainable``.
            changes: what :meth:`changes` gave for such a model.

        Raises:
            ValueError: there is no such layer.
        """
        unknown = [key for key in changes if key not in self._layers]
        if unknown:
            raise ValueError(
                f"{type(root).__name__} {root.name!r} was saved with changes to the layers {', '.join(unknown)}, which "
                "it no longer has: it was saved with another version of this library or of the task's."
            )
        for layer in root._flatten_layers():  # Keras 3 passes over what is in a layer that has this value already
            _set_own_trainable(layer, trainable)
        for key, change in changes.items():
            self._noted[key].change(self._layers[key], change)


class TrainableFlags:
    """Which layers of a model train, as it was when this was made; ``restore`` makes it so again."""

    def __init__(self, model: Any) -> None:
        self._flags = [(layer, layer.trainable) for layer in model._flatten_layers()]

    def restore(self) -> None:
        """Sets each layer's ``trainable`` to what it was."""
        for layer, trainable in self._flags:
            _set_own_trainable(layer, trainable)


def _set_own_trainable(layer: Any, trainable: bool) -> None:
    """``layer.trainable = trainable``, but for the layers inside it."""
    layer._trainable = trainable
    for variable in layer._trainable_variables if IS_KERAS_3 else ():
        variable.trainable = trainable


class _Noted:
    """One layer as it was."""

    def __init__(self, layer: Any, *, with_arguments: bool) -> None:
        self.layer_class = type(layer)
        self.arguments = _arguments(layer) if with_arguments and not isinstance(layer, keras.Model) else None
        self.variables = [_facts(variable) for variable in _variables(layer)]

    def changes(self, layer: Any, remedy: str) -> dict[str, Any]:
        if self.arguments is None:
            return self._variable_changes(layer)
        shapes = [tuple(variable.shape) for variable in _variables(layer)]
        if type(layer) is not self.layer_class or shapes != [facts["shape"] for facts in self.variables]:
            was, now = ([facts["shape"] for facts in self.variables], self.layer_class), (shapes, type(layer))
            raise NotImplementedError(
                f"layer {layer.name!r} was a {was[1].__name__} with weights of shapes {was[0]} and is a "
                f"{now[1].__name__} with {now[0]} now. {remedy}"
            )
        before, now = _plain(self.arguments), _plain(_arguments(layer))
        changed = {key: value for key, value in now.items() if before.get(key, _MISSING) != value}
        lost = [key for key in changed if key not in _SPECIAL and not hasattr(layer, key)]
        if lost:
            raise NotImplementedError(
                f"layer {layer.name!r} has another {', '.join(lost)} than it was made with. {remedy}"
            )
        return {**changed, **self._variable_changes(layer)}

    def _variable_changes(self, layer: Any) -> dict[str, Any]:
        found = {}
        for number, (variable, before) in enumerate(zip(_variables(layer), self.variables, strict=False)):
            now = _facts(variable)
            changed = {key: _serialized(now[key]) for key in _PENALTIES if now[key] is not before[key]}
            if changed:  # what the layer's own arguments say is not said twice
                said = _said_of(layer, variable)
                changed = {key: value for key, value in changed.items() if value != said.get(key)}
            trains = layer.trainable and number < len(layer._trainable_variables) if IS_KERAS_3 else now["trainable"]
            if now["trainable"] != trains:  # one variable of a layer frozen, or the other way round
                changed["trainable"] = now["trainable"]
            if changed:
                found[str(number)] = changed
        return {"variables": found} if found else {}

    def change(self, layer: Any, changes: Mapping[str, Any]) -> None:
        if "trainable" in changes:
            _set_own_trainable(layer, changes["trainable"])
        arguments = {key: value for key, value in changes.items() if key not in ("trainable", "variables")}
        if arguments:
            changed = type(layer).from_config(copy.deepcopy({**_plain(_arguments(layer)), **arguments}))
            for key in arguments:
                _SPECIAL.get(key, lambda new, layer, key=key: setattr(layer, key, getattr(new, key)))(changed, layer)
            if any(key.rpartition("_")[2] in _PENALTIES for key in arguments):
                _regularize(layer)
        for number, change in changes.get("variables", {}).items():
            variable = _variables(layer)[int(number)]
            for key, value in change.items():
                _mark(variable, key, value if key == "trainable" else _PENALTIES[key].get(value))


_MISSING = object()
_PENALTIES = {"regularizer": keras.regularizers, "constraint": keras.constraints}
# Arguments that are no attributes of the same name.
_SPECIAL: dict[str, Any] = {
    "dtype": lambda new, layer: set_policy(layer, policy_of(new)),
    "name": lambda new, layer: rename(layer, new.name),
}


def _arguments(layer: Any) -> dict[str, Any] | None:
    """A layer's configuration but for ``trainable``; ``None`` where it has none."""
    try:
        config = dict(layer.get_config())
    except NotImplementedError:
        if "get_config" in layer.__dict__:  # a quantized layer, which says what to do
            raise
        return None
    config.pop("trainable", None)
    return config


def _variables(layer: Any) -> list[Any]:
    """The variables of the layer itself, without those of layers inside it."""
    if IS_KERAS_3:
        return [*layer._trainable_variables, *layer._non_trainable_variables]
    return [*layer._trainable_weights, *layer._non_trainable_weights]


def _facts(variable: Any) -> dict[str, Any]:
    return {
        "shape": tuple(variable.shape),
        "trainable": variable.trainable,
        **{key: getattr(variable, key, None) for key in _PENALTIES},
    }


def _serialized(penalty: Any) -> Any:
    return None if penalty is None else _plain(penalty)


def _plain(value: Any) -> Any:
    """Anything Keras can save as JSON-able values, but for the numbers it gives what it met while saving one model."""

    def unshared(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: unshared(item) for key, item in value.items() if key != "shared_object_id"}
        return [unshared(item) for item in value] if isinstance(value, list | tuple) else value

    with serialized_as_in_keras_files():
        return unshared(keras.saving.serialize_keras_object(value))


def _mark(variable: Any, key: str, value: Any) -> None:
    """Sets a variable's ``trainable``, ``regularizer`` or ``constraint``."""
    if IS_KERAS_3:
        setattr(variable, key, value)
    elif key == "constraint":
        getattr(variable, "_variable", variable)._constraint = value


def _regularize(layer: Any) -> None:
    """Let a layer's regularizers and constraints count: a built layer goes by those it was built with."""
    if not IS_KERAS_3:
        layer._callable_losses.clear()
    for kind, variable, penalty in _penalties(layer):
        _mark(variable, kind, penalty)
        if not IS_KERAS_3 and kind == "regularizer" and penalty is not None:
            layer._handle_weight_regularization(variable.name, variable, penalty)


def _said_of(layer: Any, variable: Any) -> dict[str, Any]:
    return {kind: _serialized(penalty) for kind, one, penalty in _penalties(layer) if one is variable}


def _penalties(layer: Any) -> Iterator[tuple[str, Any, Any]]:
    """What a layer's arguments say of its weights: ``"regularizer"`` or ``"constraint"``, the variable, which."""
    for key in layer.get_config():
        name, _, kind = key.rpartition("_")
        # pointwise_regularizer is pointwise_kernel's; depthwise_regularizer, in Keras 3, kernel's.
        names = (name, f"{name}_kernel", *(["kernel"] if name == "depthwise" else []))
        variable = next((getattr(layer, known) for known in names if hasattr(layer, known)), None)
        if kind in _PENALTIES and name != "activity" and variable is not None:
            yield kind, variable, getattr(layer, key)
