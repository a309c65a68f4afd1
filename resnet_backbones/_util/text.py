"""Text that the library prints: JSON every reader takes, names of others that steer no terminal, tables."""

from __future__ import annotations

import io
import json
import math
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table  # imported where a table is made: names are checked without it


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


# Control characters, line separators and halves of a surrogate pair; and what turns the direction of writing around.
_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    r"""``text`` with control characters spelled out, as in ``\x1b``; line breaks stay."""
    return "".join(ascii(letter)[1:-1] if letter != "\n" and _steers(letter) else letter for letter in text)


def escape(text: str) -> str:
    """``text`` for a rich table or console: neither markup nor control characters of it have an effect."""
    import rich.markup

    return rich.markup.escape(visible(text))


def check_name(what: str, name: Any) -> None:
    """Raises unless ``name`` may name something.

    Args:
        what: it names, for the message, e.g. ``"a backbone"``.
        name: any value.

    Raises:
        TypeError: it is not text, or empty.
        ValueError: it holds control characters.
    """
    if not isinstance(name, str) or not name.strip():
        raise TypeError(f"{what} has a name, a text that is not empty; got {name!r}.")
    if any(map(_steers, name)):
        raise ValueError(f"the name of {what} must not hold control characters; got {name!a}: leave them out.")


def _steers(letter: str) -> bool:
    return unicodedata.category(letter) in _CATEGORIES or letter in _DIRECTIONS


WIDTH = 110


def as_text(*parts: Table | str) -> str:
    """Tables and lines of text, one below the other, as plain text."""
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, width=None if sys.stdout.isatty() else WIDTH, no_color=True, highlight=False)
    for part in parts:
        console.print(escape(part) if isinstance(part, str) else part)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def table(title: str, names: Sequence[str], figures: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table in which long names are folded and figures never are.

    Args:
        title: stands above it.
        names: headings of columns of words, folded where they are too long.
        figures: headings of the columns behind, right-aligned, never folded.
        rows: a text for each column.
    """
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        made.add_column(name, overflow="fold")
    for figure in figures:
        made.add_column(figure, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(*map(escape, row))
    return made
