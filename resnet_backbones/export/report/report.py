"""The report of an export: what was measured on the file, whether it passes, and how it is shown and saved."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnet_backbones._util.files import written_whole
from resnet_backbones._util.text import json_text
from resnet_backbones.export.report.facts import ExportFacts
from resnet_backbones.export.report.findings import failures, next_steps, passes, verdict
from resnet_backbones.export.report.parity import OutputParity, output_parity
from resnet_backbones.export.report.plot import picture_of, plot
from resnet_backbones.export.report.text import render, render_markdown
from resnet_backbones.export.request import QUANTIZED

__all__ = ["ExportReport", "OutputParity", "output_parity"]


@dataclass
class ExportReport(ExportFacts):
    """What is in an exported file, and how close it is to the Keras model. Printing it gives tables.

    Attributes:
        path: the file.
        precision: as in ``ExportRequest``.
        size_bytes: of the file, or of everything in the folder.
        census: operators and multiply-accumulates, read from the file; empty for formats that hold a Keras graph.
        left_in_float: path of a layer below the model -> why it has no int8 form.
        float_reasons: output tensor -> why its operator is not in integers, where the model's layers tell.
        parity: one entry an output; empty where nothing was compared.
        compared_on: ``"parity_data"``, or without it ``"calibration data"`` or ``"random data"``; empty where
            nothing was compared.
        kernels: the file's integer kernels against the Keras model's; ``None`` for a float file.
        layers: one entry a layer call, on the parity data; empty when not asked for.
        latency: one entry a file timed; empty when not asked for.
        int8_share_wanted: least share of the multiply-accumulates in int8 that passes, of those that no pattern and no
            scheme left in float.
        format: a name in ``formats.FORMATS``.
    """

    @property
    def failures(self) -> list[str]:
        """What does not pass, in words; empty if everything that was measured does."""
        return failures(self)

    @property
    def next_steps(self) -> list[str]:
        """What to do about each failure, or to compare what was not; empty if the report passes."""
        return next_steps(self)

    @property
    def passed(self) -> bool:
        """Whether outputs were compared, and everything that was measured passes."""
        return passes(self)

    @property
    def verdict(self) -> str:
        """The pass or fail line."""
        return verdict(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return {
            "path": str(self.path),
            "format": self.format,
            "precision": self.precision,
            "passed": self.passed,
            "failures": self.failures,
            "next_steps": self.next_steps,
            "size_bytes": self.size_bytes,
            "operators": {f"{kind} {dtype}": count for (kind, dtype), count in sorted(self.operators.items())},
            "multiply_accumulates": self.census.macs,
            "int8_mac_share": self.int8_mac_share,
            "int8_mac_share_wanted": self.int8_share_wanted,
            "chosen_float_mac_share": self.chosen_float_mac_share,
            "float_operators": self.float_operators if self.precision in QUANTIZED else {},
            "compared_on": self.compared_on,
            "parity": [asdict(entry) for entry in self.parity],
            "kernels": None if self.kernels is None else asdict(self.kernels),
            "layers": [asdict(entry) for entry in self.layers],
            "latency_ms": [asdict(entry) for entry in self.latency],
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report, whole or not at all.

        Args:
            path: ``x.json``; ``x.md``, which also writes the picture ``x.png`` it shows (needs matplotlib); or
                ``x.txt``. A file of that name is replaced; an ``x.png`` only if it is the picture of a report.

        Raises:
            ValueError: another suffix.
            ImportError: matplotlib is not installed.
            OSError: the folder does not exist or cannot be written to, or ``x.png`` is another picture.

        Example:
            >>> report.save("detector.md")
        """
        path = Path(path)
        if path.suffix not in (".json", ".md", ".txt"):
            raise ValueError(f"A report is saved as .json, .md or .txt, not {path.name!r}.")
        with written_whole(path) as temporary:
            if path.suffix == ".json":
                text = json_text(self.to_dict(), indent=1)
            elif path.suffix == ".md":
                picture = picture_of(path)
                plot(self, picture)
                text = render_markdown(self, picture.name)
            else:
                text = str(self)
            temporary.write_text(text + "\n", encoding="utf-8")

    def __str__(self) -> str:
        return render(self)
