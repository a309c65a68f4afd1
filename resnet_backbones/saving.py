"""Loads whatever was saved with this library: any task, float or quantized, in any process."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from resnet_backbones._util.gate import check_keras_file, regular_file, unreadable
from resnet_backbones.errors import missing

_HDF5 = b"\x89HDF\r\n\x1a\n"
# What a saved file mentions -> the module that makes its classes known, and the extra that brings it.
_PROVIDERS = {
    "keras_cv": ("resnet_backbones.adapters.keras_cv", "keras-cv"),
    "QuantizedModel": ("resnet_backbones.quantization", "quantization"),
}


def load_model(path: str | os.PathLike[str], **kwargs: Any) -> Any:
    """Loads a model saved with ``model.save("x.keras")``: a backbone, a task, float or quantized.

    Unlike ``keras.models.load_model`` it knows this library's classes, KerasCV's, and quantized models, with nothing
    else imported. KerasCV's detectors come back uncompiled (their ``compile`` cannot be replayed): compile them again
    to go on training; ranges and the state of the quantization schedule are there.

    Args:
        path: a ``.keras`` file.
        **kwargs: handed to ``keras.models.load_model``, e.g. ``compile=False``.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a complete ``.keras`` file, or refers to other files on this machine (layers that read
            a file they name do so with ``safe_mode=False``).
        ImportError: the model needs an optional package; the message names the extra.

    Example:
        >>> detector.save("detector.keras")
        >>> detector = load_model("detector.keras")
    """
    from resnet_backbones.keras_compat import keras

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path.absolute()}.")
    _check_kind(path)
    config = check_keras_file(path, trusted=kwargs.get("safe_mode") is False)
    importlib.import_module("resnet_backbones.backbones.model")
    importlib.import_module("resnet_backbones.layers")
    for mention, (module, extra) in _PROVIDERS.items():
        if mention in config:
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise missing(str(path), mention, extra, error) from error
    try:
        model = keras.models.load_model(path, **kwargs)
    except (ImportError, NotImplementedError, TypeError, ValueError):
        raise
    except Exception as error:  # a KeyError, a MemoryError: of a file whose parts do not go together
        raise unreadable(path, "Keras model", f"{type(error).__name__}: {error}") from error
    for layer in model._flatten_layers():
        if getattr(layer, "_flags_loaded", None) is not None:
            layer._flags_loaded.restore()
    return model


def _check_kind(path: Path) -> None:
    """Says how other forms of saved models are loaded."""
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder; load_model reads .keras files. A SavedModel runs with tf.saved_model.load(path), but "
            "cannot be trained or exported as a quantized model: save with model.save('name.keras')."
        )
    with regular_file(path).open("rb") as file:
        head = file.read(len(_HDF5))
    if head == _HDF5:
        raise ValueError(
            f"{path} is an HDF5 file; load_model reads .keras files: save with model.save('name.keras'). A whole model "
            "in .h5 loads with keras.models.load_model(path) after `import resnet_backbones.layers, "
            "resnet_backbones.quantization`, a quantized one on Keras 3 only. Weights alone (.weights.h5) load with "
            "model.load_weights(path)."
        )
