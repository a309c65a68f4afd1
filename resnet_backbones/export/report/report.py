"""What came out of an export, measured on the file itself, and whether it passes."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resnet_backbones._util.files import written_whole
from resnet_backbones._util.json_text import json_text
from resnet_backbones.export.litert.census import Census, Operator
from resnet_backbones.export.report.findings import COMPARE, findings
from resnet_backbones.export.report.kernels import KernelParity
from resnet_backbones.export.report.latency import Latency
from resnet_backbones.export.report.layers import LayerParity
from resnet_backbones.export.report.parity import OutputParity, output_parity
from resnet_backbones.export.request import QUANTIZED
from resnet_backbones.quantization.float_layers import WhyFloat

__all__ = ["ExportReport", "OutputParity", "output_parity"]


@dataclass
class ExportReport:
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

    path: Path
    precision: str
    size_bytes: int
    census: Census
    left_in_float: dict[str, str] = field(default_factory=dict)
    float_reasons: dict[str, WhyFloat] = field(default_factory=dict)
    parity: list[OutputParity] = field(default_factory=list)
    kernels: KernelParity | None = None
    layers: list[LayerParity] = field(default_factory=list)
    latency: list[Latency] = field(default_factory=list)
    int8_share_wanted: float = 0.99
    format: str = "litert"
    compared_on: str = ""

    @property
    def operators(self) -> dict[tuple[str, str], int]:
        """(operator, type) -> how many, e.g. ``("CONV_2D", "int8"): 20``."""
        return self.census.counts()

    @property
    def int8_mac_share(self) -> float:
        """Share of multiply-accumulates computed in int8, 0 to 1, counted from the file."""
        return self.census.int8_share

    @property
    def chosen_float_mac_share(self) -> float:
        """Share of multiply-accumulates in float because a pattern or the scheme says so, 0 to 1."""
        chosen = {output for output, why in self.float_reasons.items() if why.chosen}
        macs = sum(operator.macs for operator in self.census.not_int8() if operator.output in chosen)
        return macs / self.census.macs if self.census.macs else 0.0

    @property
    def float_operators(self) -> dict[str, str]:
        """Every operator that is not int8, by its output tensor, and why."""
        if self.precision not in QUANTIZED:
            return {op.output: f"{op.kind}: the file was exported as {self.precision}" for op in self.census.not_int8()}
        return {op.output: f"{op.kind}: {self._reason(op)}" for op in self.census.not_int8()}

    def _reason(self, operator: Operator) -> str:
        if operator.output in self.float_reasons:
            return self.float_reasons[operator.output].text
        names = [f"/{name}/" for tensor in (operator.output, *operator.inputs) for name in tensor.split(";")]
        for layer, reason in self.left_in_float.items():
            if any(f"/{layer}/" in name for name in names):
                return reason
        return (
            "no range on its output: the scheme wants none there, or it follows an operation that is no layer, or a "
            "layer that was excluded"
        )

    @property
    def failures(self) -> list[str]:
        """What does not pass, in words; empty if everything that was measured does."""
        return [found.failure for found in findings(self)]

    @property
    def next_steps(self) -> list[str]:
        """What to do about each failure, or to compare what was not; empty if the report passes."""
        steps = [found.remedy for found in findings(self)]
        return list(dict.fromkeys(steps)) if self.parity else [*dict.fromkeys(steps), COMPARE]

    @property
    def passed(self) -> bool:
        """Whether outputs were compared, and everything that was measured passes."""
        return bool(self.parity) and not self.failures

    @property
    def verdict(self) -> str:
        """The pass or fail line."""
        if self.failures:
            return "FAILED: " + "; ".join(self.failures)
        if not self.parity:
            return "NOT COMPARED: the file's outputs were not measured against Keras; give images as parity_data"
        return "PASSED"

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
        from resnet_backbones.export.report.plot import picture_of, plot_report
        from resnet_backbones.export.report.text import as_markdown

        path = Path(path)
        if path.suffix not in (".json", ".md", ".txt"):
            raise ValueError(f"A report is saved as .json, .md or .txt, not {path.name!r}.")
        with written_whole(path) as temporary:
            if path.suffix == ".json":
                text = json_text(self.to_dict(), indent=1)
            elif path.suffix == ".md":
                picture = picture_of(path)
                plot_report(self, picture)
                text = as_markdown(self, picture.name)
            else:
                text = str(self)
            temporary.write_text(text + "\n", encoding="utf-8")

    def __str__(self) -> str:
        from resnet_backbones.export.report.text import as_plain_text

        return as_plain_text(self)
