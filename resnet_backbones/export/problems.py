"""What a converter raises, as an error that says which layer, why, and what to do: the one place that translates."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from resnet_backbones.errors import ExportError, raised_here
from resnet_backbones.keras_api import keras
from resnet_backbones.quantization.model import quantization_of
from resnet_backbones.quantization.placement.leaves import leaves_of
from resnet_backbones.quantization.placement.selection import layer_paths

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
    layer = _layer_named_in(model, "\n".join([text, *getattr(error, "__notes__", ())]))
    where, part = f"a layer of {model.name!r}", "the layer"
    if layer is not None:
        where, part = f"{type(layer).__name__} {layer_paths(model)[id(layer)][0]!r}", repr(layer.name)
        quantized = quantized and layer.name not in (quantization_of(model) or {}).get("unsupported", ())  # already
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


def _layer_named_in(model: Any, text: str) -> Any:
    """The layer of which a path in the text tells, as converters write them; ``None`` if there is none."""
    leaves = {layer.name: layer for layer in leaves_of(model)[0]}
    leaves.update((layer.name, layer) for layer in model._flatten_layers() if isinstance(layer, keras.layers.Lambda))
    for path in re.findall(r"[\w.-]+(?:/[\w.-]+)+", text):
        for part in path.split("/"):
            for name in (part, re.sub(r"_\d+$", "", part)):  # a number that tells its calls apart
                if name in leaves:
                    return leaves[name]
    return None
