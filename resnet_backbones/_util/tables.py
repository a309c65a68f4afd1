"""Tables as text, of the width of the terminal, or 110 columns where the output goes to a file."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from resnet_backbones._util.printable import escape

WIDTH = 110


def as_text(*parts: Table | str) -> str:
    """Tables and lines of text, one below the other, as plain text."""
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
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        made.add_column(name, overflow="fold")
    for figure in figures:
        made.add_column(figure, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(*map(escape, row))
    return made
