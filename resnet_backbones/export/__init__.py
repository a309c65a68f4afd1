"""Exports trained models to files that run elsewhere, with a report on what came out."""

from resnet_backbones.export.exporter import export_model
from resnet_backbones.export.report import ExportReport, OutputParity

__all__ = ["ExportReport", "OutputParity", "export_model"]
