"""What a converter raises, as an error that says which layer, why, and what to do: the one place that translates."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnet_backbones.errors import ExportError
from resnet_backbones.quantization.placement.leaves import leaves_of
from resnet_backbones.quantization.placement.selection import layer_paths

_OURS = str(Path(__file__).resolve().parents[1])
_LONGEST = 300


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
        if _is_ours(error):
            raise
        raise ExportError(_message(model, format_name, error, quantized)) from error


def _is_ours(error: Exception) -> bool:
    """Whether a line of this library raised it, in words of its own."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return last.filename.startswith(_OURS) and (last.line or "").startswith("raise ")


def _message(model: Any, format_name: str, error: Exception, quantized: bool) -> str:
    text = str(error)
    layer = _layer_named_in(model, text)
    where, part = f"a layer of {model.name!r}", "the layer"
    if layer is not None:
        where, part = f"{type(layer).__name__} {layer_paths(model)[id(layer)][0]!r}", repr(layer.name)
    remedy = f"Leave {part} in float with exclude=, or replace it" if quantized else f"Replace {part}"
    return (
        f"The converter to {format_name} cannot express {where}: {type(error).__name__}: {_reason(text)}. "
        f"{remedy}, export the part of the model before it, or choose another format."
    )


def _reason(text: str) -> str:
    """The first line that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it gives no reason"]
    telling = next((line for line in lines if "error:" in line.lower()), lines[0])
    return re.sub(r"^.*?error: ", "", telling)[:_LONGEST].rstrip(".")


def _layer_named_in(model: Any, text: str) -> Any:
    """The leaf layer of which a path in the text tells, as converters write them; ``None`` if there is none."""
    leaves = {layer.name: layer for layer in leaves_of(model)[0]}
    for path in re.findall(r"[\w.-]+(?:/[\w.-]+)+", text):
        for part in path.split("/"):
            for name in (part, re.sub(r"_\d+$", "", part)):  # a number that tells its calls apart
                if name in leaves:
                    return leaves[name]
    return None
