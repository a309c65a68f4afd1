"""What keeps the house easy to map: each class has a name of its own, and no file is long. Circles: `make lint`."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = [*sorted((ROOT / "resnet_backbones").rglob("*.py")), *sorted((ROOT / "adapters").rglob("*.py"))]
MOST_LINES = 400


def test_no_two_classes_have_one_name():
    places = defaultdict(set)
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].add(path.resolve())  # adapters/ is there as a link, too
    assert len(places) > 100
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_no_file_is_long():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {path: number for path, number in lines.items() if number > MOST_LINES}
