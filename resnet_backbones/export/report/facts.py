"""What came out of an export, measured on the file itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from resnet_backbones.export.contents import Census, Operator
from resnet_backbones.export.report.kernels import KernelParity
from resnet_backbones.export.report.latency import Latency
from resnet_backbones.export.report.layers import LayerParity
from resnet_backbones.export.report.parity import OutputParity
from resnet_backbones.export.request import QUANTIZED
from resnet_backbones.quantization.float_layers import WhyFloat


@dataclass
class ExportFacts:
    """What :class:`~resnet_backbones.export.ExportReport` knows of a file, without its judgement; see there."""

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
