"""Exports trained models to files that run elsewhere, with a report on what came out.

Names are loaded when first used (PEP 562): ``export.tensorrt`` needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {"ExportReport": "report.report", "OutputParity": "report.report", "export_model": "api"}

__all__ = ["ExportReport", "OutputParity", "export_model", "tensorrt"]

if TYPE_CHECKING:
    from resnet_backbones.export import tensorrt
    from resnet_backbones.export.api import export_model
    from resnet_backbones.export.report.report import ExportReport, OutputParity


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    elif name == "tensorrt":
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # next time without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
