"""What is asked of an export, and what an emitter, one a format, gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from resnet_backbones.export.contents import Census, FileKernel
    from resnet_backbones.export.sources import Sources

#: Precisions that hold the model's ranges.
QUANTIZED = ("int8", "int16x8")
#: The Keras model as it is, ranges included.
UNCHANGED = "unchanged"


@dataclass(frozen=True)
class ExportRequest:
    """One export, every choice made.

    Attributes:
        format: a name in ``formats.FORMATS``.
        precision: ``"float32"``, ``"float16"``, ``"bfloat16"``, ``"dynamic_range"``, ``"int8"``, ``"int16x8"`` or
            ``"unchanged"``, the Keras model as it is.
        target: of an ONNX file, ``"tensorrt"`` or ``"onnxruntime"``; ``None`` elsewhere.
        layout: of the file's image input, ``"NHWC"`` or ``"NCHW"``.
        batch: images a call; ``None`` for any number.
        preprocessing: (height, width) of the images the file takes in the Keras model's units, resized and rescaled
            within it; ``None`` where that is left to the caller.
        postprocessing: decode and suppress boxes within the file.
        class_names: names of the classes, by index; ``None`` where unknown.
        input_shape: (height, width, channels) of the images, for a model that leaves its size open; ``None`` where the
            model says it.
    """

    format: str
    precision: str
    target: str | None = None
    layout: str = "NHWC"
    batch: int | None = 1
    preprocessing: tuple[int, int] | None = None
    postprocessing: bool = False
    class_names: Sequence[str] | None = None
    input_shape: tuple[int, ...] | None = None

    @property
    def view(self) -> str:
        """Whose view of the quantized Keras graph the file stands for (``context.use_view``)."""
        return "tensorrt" if self.target == "tensorrt" else "litert"

    @property
    def quantized(self) -> bool:
        """Whether the file holds the ranges of the model."""
        return self.precision in QUANTIZED


@dataclass
class Emitted:
    """A file's content, before the metadata is added, and what is known of it.

    Attributes:
        data: the content: bytes, or whatever the format's ``write`` takes.
        census: what operators it holds.
        metadata: what the runtime must know of the file itself: ``input`` and ``outputs`` (runtime/metadata.py).
        steps: output name -> size of the int8 step of each value, broadcastable to the output; empty in float.
        kernels: the integer kernels it holds.
        tensors: name and shape, in Keras' layout, of what its operators compute, in order, named after the function's
            operations.
        exact_names: whether each of those has the name of the one operation whose result it holds; else names of
            several that were joined, some of them left out.
        sources: which layer each operation of the function comes from; ``None`` where that is not kept.
        bare: where the file post-processes, the same without that: what gives the Keras model's own outputs.
    """

    data: Any
    census: Census
    metadata: dict[str, Any]
    steps: dict[str, np.ndarray] = field(default_factory=dict)
    kernels: list[FileKernel] = field(default_factory=list)
    tensors: Sequence[tuple[str, tuple[int | None, ...]]] = ()
    exact_names: bool = False
    sources: Sources | None = None
    bare: Emitted | None = None
