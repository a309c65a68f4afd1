"""Checks an ONNX file against TensorRT's documented rules for explicit quantization, without TensorRT."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from resnet_backbones._util.text import escape
from resnet_backbones.errors import needed
from resnet_backbones.export.tensorrt.findings import RULES, SEVERITIES, Finding

if TYPE_CHECKING:
    import onnx

    from resnet_backbones.export.tensorrt.graph import FileGraph


@dataclass(frozen=True)
class CheckReport:
    """What the rules found. Printing it gives a table, a line a node.

    Attributes:
        name: the file, or the name of the graph.
        findings: errors first, then warnings, then information.
        fused: what would run how, e.g. ``{"Conv in int8": 20, "Conv in float": 1, "Add in a convolution": 8}``.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    fused: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.of("error")

    def of(self, severity: str) -> list[Finding]:
        """The findings of one severity."""
        return [one for one in self.findings if one.severity == severity]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return {
            "name": self.name,
            "ok": self.ok,
            "fused": dict(self.fused),
            "findings": [asdict(one) for one in self.findings],
        }

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=140)
        counts = ", ".join(f"{len(self.of(severity))} {severity}" for severity in SEVERITIES)
        verdict = f"{self.name}  TensorRT Q/DQ: {'ok' if self.ok else 'not ok'}  ({counts})"
        console.print(escape(verdict), highlight=False, soft_wrap=True)
        console.print(", ".join(f"{what}: {count}" for what, count in self.fused.items()), highlight=False)
        if self.findings:
            table = Table("", "node", "rule", "what, and what to do", title="Node by node")
            for one in self.findings:
                table.add_row(*map(escape, (one.severity, one.node, one.rule, one.message)))
            console.print(table)
        return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


def check(source: str | os.PathLike[str] | onnx.ModelProto) -> CheckReport:
    """Checks an ONNX file, node by node, against the rules TensorRT documents for networks with Q/DQ.

    Nothing is built or run, and TensorRT is not needed. Passing does not prove that TensorRT picks the int8 kernels,
    only that the file lets it.

    Args:
        source: path of an ``.onnx`` file, or the model itself.

    Returns:
        A report; ``.ok`` says whether there are no errors.

    Raises:
        FileNotFoundError: no such file.
        ImportError: ``onnx`` is not installed.
        ValueError: no whole ONNX file.

    Example:
        >>> report = rb.export.tensorrt.check("detector.onnx")
        >>> print(report)
        >>> report.ok
        True

    Source: NVIDIA, "Working with Quantized Types",
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
    """
    needed("onnx", "Checking an ONNX file", "ONNX", "onnx")
    from resnet_backbones.export.tensorrt import rules, rules_quantizers
    from resnet_backbones.export.tensorrt.graph import read_graph

    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else source.graph.name
    try:
        graph = read_graph(source)
        findings = _findings(graph, ["valid", "opset"])
        sound = not any(one.rule == "valid" for one in findings)
        if sound and rules_quantizers.for_onnxruntime(graph):  # one cause, not a finding per node
            findings = [Finding("int8", "graph", _FOR_ONNXRUNTIME, "error")]
        elif sound:  # the other rules rely on it
            findings = _findings(graph, rules.RULES)
        fused = _fused(graph) if sound else {}
    except UnicodeDecodeError as error:  # of a name; protobuf reads names late
        raise ValueError(f"{name} is damaged: {error}. Copy or export it again.") from error
    return CheckReport(name, findings, fused)


_FOR_ONNXRUNTIME = (
    "all activations are uint8, which is the form for ONNX Runtime; TensorRT reads int8 only. Quantize the model with "
    "'portable_int8' or 'gpu_int8' and export it with target='tensorrt' (--target tensorrt)."
)


def _findings(graph: FileGraph, names: Iterable[str]) -> list[Finding]:
    """What some rules find, errors first, each in the order of the file."""
    found = [
        Finding(name, node, message, severity) for name in names for severity, node, message in RULES[name].find(graph)
    ]
    place = {node.name: i for i, node in enumerate(graph.nodes)}
    return sorted(found, key=lambda one: (SEVERITIES.index(one.severity), place.get(one.node, -1)))


def _fused(graph: FileGraph) -> dict[str, int]:
    """How many layers would run how."""
    from resnet_backbones.export.tensorrt.graph import is_int8, weighted_layers
    from resnet_backbones.export.tensorrt.rules import additions

    counts: Counter[str] = Counter()
    for layer in weighted_layers(graph):
        counts[f"{layer.node.op} in {'int8' if is_int8(graph, layer) else 'float'}"] += 1
    for _node, addends in additions(graph):
        free = [one for one in addends if not one.quantized]
        if len(free) == 1 and free[0].layer is not None:
            counts["Add in a convolution"] += 1
        else:
            counts[f"Add on its own, {'float' if free else 'int8'}"] += 1
    return dict(sorted(counts.items()))
