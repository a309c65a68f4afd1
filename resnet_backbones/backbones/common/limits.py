"""What a block cannot do, said before it is built."""

from __future__ import annotations

from typing import Any


def refuse(spec: Any, block: str, *fields: str, hint: str) -> None:
    """Raises where a spec asks a block for something it has no form of.

    Args:
        spec: the backbone's spec.
        block: the block's name.
        fields: fields of the spec that must have their default values.
        hint: what to do instead.

    Raises:
        ValueError: one of them has another value.
    """
    for field in fields:
        value, default = getattr(spec, field), type(spec).__dataclass_fields__[field].default
        if value != default:
            raise ValueError(f"block {block!r} knows no {field}: it must be {default!r}, not {value!r}; {hint}.")
