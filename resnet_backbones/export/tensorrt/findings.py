"""What a rule is, what it finds, and the table of all rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_backbones.export.tensorrt.graph import FileGraph

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing a rule has to say about one node.

    Attributes:
        rule: the rule's name, a key of :data:`RULES`.
        node: name of the node; ``"graph"`` where it is the whole file.
        message: what is wrong and what mends it.
        severity: ``"error"``: TensorRT refuses the file, or a layer meant for int8 would run in float or unfused;
            ``"warning"``: it works, and costs time or precision; ``"info"``: worth knowing.
    """

    rule: str
    node: str
    message: str
    severity: str


@dataclass(frozen=True)
class Page:
    """A page of documentation a rule comes from."""

    title: str
    url: str


_DOCS = "https://docs.nvidia.com/deeplearning/tensorrt/latest"
_EXPLICIT = f"{_DOCS}/inference-library/quantized-types-explicit-quantization.html"
PLACEMENT = Page("Quantized types: placement", f"{_DOCS}/inference-library/work-quantized-types.html")
PROCESSING = Page("Explicit quantization: processing", _EXPLICIT)
ONNX_SUPPORT = Page("Explicit quantization: ONNX", _EXPLICIT)
LIMITATIONS = Page("Explicit quantization: limitations", _EXPLICIT)
QUANTIZE_PAGE = Page("Quantize", "https://docs.nvidia.com/deeplearning/tensorrt/operators/docs/Quantize.html")
DEQUANTIZE_PAGE = Page("Dequantize", "https://docs.nvidia.com/deeplearning/tensorrt/operators/docs/Dequantize.html")
OPSETS = Page("ONNX opsets", f"{_DOCS}/reference/onnx-opset-guide.html")
PARSER = Page("ONNX parser", "https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md")
DYNAMIC_SHAPES = Page("Dynamic shapes", f"{_DOCS}/inference-library/work-dynamic-shapes.html")

Found = Iterator[tuple[str, str, str]]  # severity, node, message


@dataclass(frozen=True)
class TensorRTRule:
    """One rule.

    Attributes:
        name: short, in the table of findings.
        source: the documentation it comes from.
        reason: one line: why TensorRT wants it.
        find: graph -> (severity, node, message) of each breach.
    """

    name: str
    source: Page
    reason: str
    find: Callable[[FileGraph], Found]


RULES: dict[str, TensorRTRule] = {}


def rule(name: str, source: Page) -> Callable[[Callable[[FileGraph], Found]], Callable[[FileGraph], Found]]:
    """Adds the decorated function to :data:`RULES`; its docstring is the reason."""

    def register(find: Callable[[FileGraph], Found]) -> Callable[[FileGraph], Found]:
        RULES[name] = TensorRTRule(name, source, find.__doc__ or "", find)
        return find

    return register
