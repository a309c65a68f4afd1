"""What a converter raises, as an error that says which layer, why, and what to do: the one place that translates."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from resnet_backbones.errors import ExportError, raised_here
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.leaves import leaves_of
from resnet_backbones.quantization.model import quantization_of
from resnet_backbones.quantization.placement.selection import layer_labels, layer_paths, layer_patterns

_LONGEST = 300


class NoFormError(Exception):
    """A format has no form of operations that the message names; :func:`explained` says in which layer."""


@contextlib.contextmanager
def explained(model: Any, format_name: str, *, quantized: bool) -> Iterator[None]:
    """Within it, what other libraries raise becomes an :class:`ExportError`, with what they raised as its cause.

    This library's own errors pass, and so do those of files, of memory and interrupts.

    Args:
        model: what is exported.
        format_name: of the file, for the message.
        quantized: whether the file holds the model's ranges.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if raised_here(error) and not isinstance(error, NoFormError):
            raise
        raise ExportError(_message(model, format_name, error, quantized)) from error


def name_operations(error: Exception, graph: Any) -> None:
    """Adds to an error that names types of operations the paths of those that a function holds, as notes.

    Args:
        error: raised by a converter.
        graph: of the function, whose operations are named after the layers they are in.
    """
    types = set(re.findall(r"\btf\.(\w+)", str(error)))
    for operation in graph.get_operations():
        if operation.type in types:
            error.add_note(operation.name)


def _message(model: Any, format_name: str, error: Exception, quantized: bool) -> str:
    text = str(error)
    described = "\n".join([text, *getattr(error, "__notes__", ())])
    layers, labels, patterns = layers_named_in(model, described), layer_labels(model), layer_patterns(model)
    where, part = f"a layer of {model.name!r}", "the layer"
    if layers:
        where = " or ".join(f"{type(layer).__name__} {labels[id(layer)]!r}" for layer in layers)
        part = " or ".join(repr(patterns[id(layer)]) for layer in layers)
        unsupported = (quantization_of(model) or {}).get("unsupported", ())
        places = {labels[id(layer)].removeprefix(f"{model.name}/") for layer in layers}
        quantized = quantized and not places <= set(unsupported)  # those are in float already
    remedy = f"Leave {part} in float with exclude=, or replace it" if quantized else f"Replace {part}"
    kind = "" if isinstance(error, NoFormError) else f"{type(error).__name__}: "
    return (
        f"The converter to {format_name} cannot express {where}: {kind}{_reason(text)}. "
        f"{remedy}, export the part of the model before it, or choose another format."
    )


def _reason(text: str) -> str:
    """The first line that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it gives no reason"]
    telling = next((line for line in lines if "error:" in line.lower()), lines[0])
    return re.sub(r"^.*?error: ", "", telling)[:_LONGEST].rstrip(".")


def layers_named_in(model: Any, text: str) -> list[Any]:
    """The layer that a path in a converter's text tells of; several if they have one name.

    Args:
        model: what is exported.
        text: the converter's.
    """
    paths = layer_paths(model)
    functions = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Lambda)]
    leaves = list(dict.fromkeys([*leaves_of(model)[0], *functions]))
    for named in re.findall(r"[\w.-]+(?:/[\w.-]+)+", text):
        parts = [{part, re.sub(r"_\d+$", "", part)} for part in named.split("/")]  # without a number of the call
        known = {layer: max(_match(path.split("/"), parts) for path in paths[id(layer)]) for layer in leaves}
        best = max(known.values(), default=0)
        if best:
            layers = [layer for layer, length in known.items() if length == best]
            exact = [layer for layer in layers if layer.name in named.split("/")]
            return exact or layers
    return []


def _match(path: list[str], parts: list[set[str]]) -> int:
    """How many names at the end of a layer's path stand in a row in a converter's."""
    longest = 0
    for end in range(1, len(parts) + 1):
        for length, (name, part) in enumerate(zip(reversed(path), reversed(parts[:end]), strict=False), start=1):
            if name not in part:
                break
            longest = max(longest, length)
    return longest
