"""Text of others on a terminal: names and messages that cannot steer it, nor be read as markup."""

from __future__ import annotations

import unicodedata
from typing import Any

# Control characters, line separators and halves of a surrogate pair; and what turns the direction of writing around.
_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    r"""``text`` with control characters spelled out, as in ``\x1b``; line breaks stay."""
    return "".join(ascii(letter)[1:-1] if letter != "\n" and _steers(letter) else letter for letter in text)


def escape(text: str) -> str:
    """``text`` for a rich table or console: neither markup nor control characters of it have an effect."""
    import rich.markup  # not where names are only checked

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
