"""Which layers are quantized, and with how many bits: the user's patterns against the layers' names and paths."""

from __future__ import annotations

import difflib
import fnmatch
import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from resnet_backbones.keras_compat import added_children
from resnet_backbones.keras_compat.operations import operations_of
from resnet_backbones.schemes import Scheme


class Bits(NamedTuple):
    """Bits of a layer's kernels and of the activations it computes with."""

    kernel: int
    activation: int


def layer_paths(model: Any) -> dict[int, list[str]]:
    """Where every layer below a model stands, and every bare operation of a functional model (``x + y``).

    Args:
        model: a built model.

    Returns:
        ``id(layer)`` -> its paths, that of layers' names first, e.g. ``["retina_net/prediction_head_1/conv2d_3",
        "retina_net/box_head/conv2d_3"]``: a layer held in several places has several, and so has one that another layer
        holds as an attribute of another name.
    """
    paths: dict[int, list[str]] = {}

    def visit(layer: Any, path: str) -> None:
        known = paths.setdefault(id(layer), [])
        if path in known:
            return
        known.append(path)
        attributes = _attributes(layer)
        ours = {id(getattr(layer, name)) for name in added_children(layer)}
        for child in layer._flatten_layers(recursive=False, include_self=False):
            if child is not layer and id(child) not in ours:
                for name in dict.fromkeys([child.name, *attributes.get(id(child), ())]):
                    visit(child, f"{path}/{name}")

    visit(model, model.name)
    for operation, host in operations_of(model):
        paths.setdefault(id(operation), [f"{path}/{operation.name}" for path in paths[id(host)]])
    return paths


def layer_labels(model: Any) -> dict[int, str]:
    """What messages and reports call the layers and bare operations of a model: layers of equal name are told apart.

    Args:
        model: a built model.

    Returns:
        ``id(layer)`` -> the first of its paths that no other has, as a pattern matches it.
    """
    paths = layer_paths(model)
    counts = Counter(path for found in paths.values() for path in found)
    return {key: next((path for path in found if counts[path] == 1), found[0]) for key, found in paths.items()}


def layer_patterns(model: Any) -> dict[int, str]:
    """For each layer the shortest pattern that matches it and no other: its name, or where others have it its path.

    Args:
        model: a built model.
    """
    paths, labels = layer_paths(model), layer_labels(model)
    counts = Counter(name for found in paths.values() for name in _names(found))
    names = {key: found[0].rpartition("/")[2] for key, found in paths.items()}
    return {key: glob.escape(name if counts[name] == 1 else labels[key]) for key, name in names.items()}


def _attributes(layer: Any) -> dict[int, list[str]]:
    """id(child) -> names of the layer's public attributes that hold it, ``conv_layers_0`` for the first of a list."""
    found: dict[int, list[str]] = {}
    for name, value in vars(layer).items():
        if name.startswith("_"):
            continue
        found.setdefault(id(value), []).append(name)
        if isinstance(value, (list, tuple)):
            for position, member in enumerate(value):
                found.setdefault(id(member), []).append(f"{name}_{position}")
    return found


class Selection:
    """Says of each layer whether it stays in float, and how many bits it has.

    A pattern (``fnmatch``) matches a layer by its name (``"stem_conv1"``), its path (``"retina_net/box_head/conv2d"``)
    or the end of its path (``"box_head/conv2d"``); one that matches a layer of layers matches all it holds. A name that
    layers in several nested models have matches each of them; a path chooses one.

    Args:
        model: the model that is quantized.
        scheme: bits where nothing else is said.
        exclude: patterns of layers to leave in float.
        override: pattern -> ``{"kernel_bits": ..., "activation_bits": ...}`` (either or both); later ones win.
        keep_float: further patterns to leave in float, which need not match anything (a task's own).

    Raises:
        ValueError: a pattern that matches no layer, or an override that is unknown or out of bounds.
    """

    def __init__(
        self,
        model: Any,
        scheme: Scheme,
        exclude: Sequence[str] = (),
        override: Mapping[str, Mapping[str, int]] | None = None,
        keep_float: Sequence[str] = (),
    ) -> None:
        self.scheme = scheme
        if isinstance(exclude, str):
            raise TypeError(f"exclude is a list of patterns; for one, write exclude=[{exclude!r}].")
        self.exclude, self.override = tuple(exclude), {key: dict(value) for key, value in (override or {}).items()}
        self._names = {key: _names(paths) for key, paths in layer_paths(model).items()}
        for pattern in (*self.exclude, *self.override):
            self._check_matches(pattern)
        for pattern, options in self.override.items():
            self._check_options(pattern, options)
        self._float = (*self.exclude, *keep_float)

    def stays_float(self, layer: Any) -> bool:
        """Whether the layer is left in float because a pattern says so."""
        return any(self._matches(layer, pattern) for pattern in self._float)

    def bits(self, layer: Any) -> Bits:
        """Bits of the layer's kernels and activations."""
        options: dict[str, int] = {}
        for pattern, given in self.override.items():
            if self._matches(layer, pattern):
                options.update(given)
        return Bits(
            options.get("kernel_bits", self.scheme.kernel_bits),
            options.get("activation_bits", self.scheme.activation_bits),
        )

    def _matches(self, layer: Any, pattern: str) -> bool:
        names = self._names.get(id(layer), {layer.name})
        return any(fnmatch.fnmatchcase(name, pattern) for name in names)

    def _check_matches(self, pattern: str) -> None:
        every = set().union(*self._names.values())
        if any(fnmatch.fnmatchcase(name, pattern) for name in every):
            return
        near = difflib.get_close_matches(pattern.strip("*"), every, n=3, cutoff=0.4)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(
            f"No layer of the model matches the pattern {pattern!r}.{hint} Patterns (fnmatch) match a layer's "
            "name or path, as quantization.layer_paths(model) lists them."
        )

    def _check_options(self, pattern: str, options: Mapping[str, int]) -> None:
        unknown = set(options) - {"kernel_bits", "activation_bits"}
        if unknown or not options:
            raise ValueError(
                f"override[{pattern!r}] is {options!r}; it takes kernel_bits (2 to 8) and activation_bits (2 to 16)."
            )
        try:
            self.scheme.replace(**options)
        except ValueError as error:
            raise ValueError(f"override[{pattern!r}]: {error}") from error


def _names(paths: Sequence[str]) -> set[str]:
    """What patterns may match: the layer's name, the ends of its paths, and those of the layers that hold it."""
    names = set()
    for path in paths:
        parts = path.split("/")
        names.add(path)
        for end in range(2, len(parts) + 1):  # the model itself only by its whole path: "resnet*" is no pattern for all
            names.update("/".join(parts[start:end]) for start in range(1, end))
            names.add("/".join(parts[:end]))
    return names
