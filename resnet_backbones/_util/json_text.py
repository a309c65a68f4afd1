"""JSON that every reader takes: NaN and infinity, which JSON does not have, become null."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(data: Any, indent: int | None = None) -> str:
    """Write plain values as JSON text.

    Args:
        data: dictionaries, lists, strings, numbers, booleans and ``None``. Floats that are NaN or infinite become null.
        indent: spaces per level; ``None`` for one line.

    Example:
        >>> json_text({"psnr": float("inf")})
        '{"psnr": null}'
    """
    return json.dumps(_finite(data), indent=indent, allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data
