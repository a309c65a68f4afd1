"""The error that says what building an engine lacks."""

from __future__ import annotations


class TensorRTMissingError(ImportError, RuntimeError):
    """TensorRT, CUDA's Python package or a GPU is missing; the message says which, and what to do."""
