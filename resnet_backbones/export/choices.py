"""From what the user typed to a request with every choice made, or an error that says what to type instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from resnet_backbones._util.text import check_name
from resnet_backbones.export.formats import FORMATS, Format
from resnet_backbones.export.preprocess import fixed_signature, image_size
from resnet_backbones.export.request import QUANTIZED, UNCHANGED, ExportRequest
from resnet_backbones.keras_compat import input_signature
from resnet_backbones.quantization import quantization_of, quantizers_of
from resnet_backbones.quantization.boundaries import check_described
from resnet_backbones.quantization.hooks import range_labels
from resnet_backbones.schemes import precision_of


def choose(
    model: Any,
    row: Format,
    *,
    precision: str | None = None,
    target: str | None = None,
    layout: str | None = None,
    batch: int | None = 1,
    preprocessing: bool | tuple[int, int] = False,
    postprocessing: bool = False,
    class_names: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
) -> ExportRequest:
    """Fills in defaults and checks what was asked for against the model; ``formats.check_asked`` did what needs none.

    Args:
        model: a built Keras model.
        row: the format.
        precision: as ``export_model`` takes it, and so are the others.
        target: the same.
        layout: the same.
        batch: the same.
        preprocessing: the same.
        postprocessing: the same.
        class_names: the same.
        input_shape: the same.

    Raises:
        ValueError: int8 of a float model, ranges that were never observed.
    """
    layout, target = layout or row.layout, target or row.target
    if isinstance(class_names, str):
        raise TypeError(f"class_names must be a list of names; got the string {class_names!r}.")
    if class_names is not None:
        class_names = [str(name) for name in class_names]
        for name in class_names:
            check_name("a class", name)
    shape = _input_shape(model, input_shape)
    size = _image_size(model, preprocessing, shape)
    return ExportRequest(
        row.name, _precision(model, row, precision), target, layout, batch, size, postprocessing, class_names, shape
    )


def _input_shape(model: Any, given: Sequence[int] | None) -> tuple[int, ...] | None:
    """``input_shape`` checked, also against what the model takes."""
    if given is None:
        return None
    whole = isinstance(given, (tuple, list)) and all(isinstance(one, int) and one >= 1 for one in given)
    if not whole or len(given) != 3:
        raise ValueError(f"input_shape must be (height, width, channels) in whole numbers; got {given!r}.")
    fixed_signature(model, tuple(given))
    return tuple(given)


def _image_size(
    model: Any, preprocessing: bool | tuple[int, int], input_shape: tuple[int, ...] | None
) -> tuple[Any, Any] | None:
    if preprocessing is False:
        return None
    specs = tf.nest.flatten(input_signature(model))
    if len(specs) != 1 or len(specs[0].shape) != 4:
        raise ValueError(
            f"preprocessing rescales and resizes images (batch, height, width, channels); {model.name!r} takes "
            f"{', '.join(str(tuple(spec.shape)) for spec in specs)}. Leave it out."
        )
    if preprocessing is True:
        return image_size(model, input_shape)
    height, width = preprocessing
    if min(height, width) < 1:
        raise ValueError(f"preprocessing takes (height, width) of the images, in pixels; got {preprocessing!r}.")
    return int(height), int(width)


def _precision(model: Any, row: Format, precision: str | None) -> str:
    if (precision is None and row.precisions != (UNCHANGED,)) or precision in QUANTIZED:
        check_described(model)
    scheme = (quantization_of(model) or {}).get("scheme")
    own = None if scheme is None else precision_of(scheme["activation_bits"])
    if precision is None:
        precision = row.precisions[0] if own is None or row.precisions == (UNCHANGED,) else own
        if precision not in row.precisions:
            raise ValueError(_no_integers(model, row, precision))
    if precision not in QUANTIZED:
        return precision
    if scheme is None:
        raise ValueError(
            f"{model.name!r} is a float model, and {precision} needs ranges: call quantize_aware(model) and fine-tune, "
            "or quantize_post_training(model, calibration_data=images), then export again."
        )
    if precision != own:
        raise ValueError(
            f"{model.name!r} is quantized with {scheme['name']!r}, which makes {own} files, not {precision}. Quantize "
            f"it with {'edge_int8' if precision == 'int8' else 'edge_int16x8'!r} instead, or leave precision out."
        )
    labels = range_labels(model)
    unknown = [repr(labels[id(one)]) for one in quantizers_of(model) if not one.has_range]
    if unknown:
        raise ValueError(
            f"{len(unknown)} ranges of {model.name!r} were never observed (first: {', '.join(unknown[:3])}). Call "
            "calibrate(model, images), or train the quantized model, before exporting it."
        )
    return precision


def _no_integers(model: Any, row: Format, precision: str) -> str:
    """A quantized model becomes a float file only if that is asked for."""
    scheme = quantization_of(model)["scheme"]["name"]  # type: ignore[index]  # it has one
    others = [one.name for one in FORMATS.values() if {precision, UNCHANGED} & set(one.precisions)]
    remedy = "" if precision == "int8" else ", quantize it with 'edge_int8', whose files are int8"
    return (
        f"{model.name!r} is quantized with {scheme!r}, which makes {precision} files, and format {row.name!r} has no "
        f"{precision}. Export it as {' or '.join(others)}{remedy}, or ask for precision='float32' to leave its ranges "
        "out."
    )
