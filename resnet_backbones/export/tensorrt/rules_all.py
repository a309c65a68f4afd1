"""All rules, in the order their table is read: importing this module fills :data:`RULES`.

``python -m resnet_backbones.export.tensorrt.rules_all`` prints the table in docs/tensorrt.md.
"""

# ruff: noqa: I001 — the order of imports is the order of the table
from __future__ import annotations

import sys

from resnet_backbones.export.tensorrt import rules_quantizers  # noqa: F401
from resnet_backbones.export.tensorrt import rules_layers  # noqa: F401
from resnet_backbones.export.tensorrt.findings import RULES
from resnet_backbones.export.tensorrt.graph import read_graph

__all__ = ["RULES", "read_graph", "rules_markdown"]


def rules_markdown() -> str:
    """The rules as a Markdown table, each with its reason and the page it comes from; the pages' addresses below it."""
    lines = ["| rule | why | documented in |", "| --- | --- | --- |"]
    lines += [f"| `{one.name}` | {one.reason} | [{one.source.title}] |" for one in RULES.values()]
    sources = dict.fromkeys(one.source for one in RULES.values())
    return "\n".join([*lines, "", *(f"[{source.title}]: {source.url}" for source in sources)]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(rules_markdown())
