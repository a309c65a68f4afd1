"""Writes docs/numerics.md from what the reference tests recorded: ``python tests/reference/numerics_table.py``.

Each comparison leaves a line in runs/numerics/<source>-<name>.json; the newest line counts.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "runs" / "numerics"
TITLES = {
    "timm": "timm",
    "torchvision": "torchvision",
    "keras_applications": "keras.applications",
    "keras_hub": "KerasHub",
    "pytorchcv": "pytorchcv",
}
PACKAGES = {
    "timm": "timm",
    "torchvision": "torchvision",
    "keras_applications": "keras",
    "keras_hub": "keras-hub",
    "pytorchcv": "pytorchcv",
}
NOTES = {"keras_applications": " (RegNets: tf_keras' own, Keras 3 has none)"}
INTRODUCTION = """# Numerics

Our backbones against implementations we did not write. Each of their models is given random weights, random batch-norm
statistics, scales and biases; the weights are converted; both compute the same images in inference mode, of 75x64
pixels unless the row says otherwise, so of no multiple of 32 where the network allows that. The figures are the largest
error of every pyramid level, and of a classifier's logits, as a share of the largest magnitude of the reference there.
The tests allow 1e-4. A zero means equal to the last bit.

`*`: stages of more than twenty gated blocks. With random scales round 1, features grow to 10,000 and more there,
and timm's own model in float32 differs from itself in float64 by 0.3 to 0.7. The scales of each block's last batch norm
are therefore between 0.1 and 0.5, as training leaves them.

Written by `make numerics` from what `make test-reference` measured; `-` where the reference has no such level.
"""


def records():
    """Source -> name -> its newest record."""
    found = {}
    for path in sorted(RECORDS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8").strip().splitlines()[-1])
        source = record["source"].replace(".", "_")
        found.setdefault(source, {})[record["name"]] = record
    return found


def natural(name):
    """Sorts resnet18 before resnet101."""
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name)]


def section(source, rows):
    """The table of one source."""
    package = PACKAGES[source]
    columns = sorted({level for row in rows.values() for level in row["errors"] if level != "logits"}, key=natural)
    columns.append("logits")
    worst = max(max(row["errors"].values()) for row in rows.values())
    lines = [
        f"## {TITLES[source]}",
        "",
        f"{package} {importlib.metadata.version(package)}{NOTES.get(source, '')}; {len(rows)} names; "
        f"the largest error of all is {worst:.1e}.",
        "",
        "| name | " + " | ".join(columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for name in sorted(rows, key=natural):
        errors = rows[name]["errors"]
        cells = [figure(errors[column]) if column in errors else "-" for column in columns]
        size = rows[name].get("size")
        label = f"{name} ({size[0]}x{size[1]})" if size and tuple(size) != (75, 64) else name
        label += " *" if rows[name].get("calm") else ""
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(value):
    """1.2e-6, or 0."""
    return "0" if value == 0 else f"{value:.1e}"


def main():
    found = records()
    if not found:
        raise SystemExit(f"{RECORDS} holds no records: run `make test-reference` first.")
    sections = [section(source, found[source]) for source in TITLES if source in found]
    (ROOT / "docs" / "numerics.md").write_text("\n".join([INTRODUCTION, "\n\n".join(sections), ""]), encoding="utf-8")
    print(f"docs/numerics.md: {sum(map(len, found.values()))} comparisons of {', '.join(found)}.")


if __name__ == "__main__":
    main()
