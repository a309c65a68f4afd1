"""Quantizes a whole model in place: finds where quantizers go, attaches them, sets their ranges."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from resnet_backbones.quantization.attach import attach, biases_of
from resnet_backbones.quantization.boundaries import check_again, check_completes, check_others, complete_descriptions
from resnet_backbones.quantization.calibration import calibrate
from resnet_backbones.quantization.expressible import (
    check_16_bits,
    check_bare_operations,
    check_integer_input,
    check_operations,
    check_policies,
    check_stateless,
)
from resnet_backbones.quantization.leaves import WITH_ACTIVATIONS
from resnet_backbones.quantization.mixed_bits import check_bare_forms, check_changes, check_numbers, check_resizing
from resnet_backbones.quantization.model import as_quantized_model, quantization_of
from resnet_backbones.quantization.placement import place
from resnet_backbones.quantization.placement.selection import Selection
from resnet_backbones.quantization.placement.sites import placement_to_dict
from resnet_backbones.quantization.strip import quantization_state, restore_quantization
from resnet_backbones.quantization.trace import Trace
from resnet_backbones.schemes import Scheme, get_scheme
from resnet_backbones.tasks import task_of


def quantize_aware(
    model: Any,
    scheme: str | Scheme = "edge_int8",
    *,
    exclude: Sequence[str] = (),
    override: Mapping[str, Mapping[str, int]] | None = None,
    calibration_data: Any = None,
    observer: Any = "min_max",
    max_calibration_batches: int | None = None,
) -> Any:
    """Makes a model train and run as it will in int8, in place, as Keras' own ``quantize()`` does.

    Works on any built model: functional, nested, or a subclassed task such as a KerasCV detector, in Keras 3 and
    tf_keras. Call it once; go on with ``compile`` and ``fit``. A model that was compiled keeps its optimizer but
    builds its train step anew.

    Args:
        model: a built Keras model.
        scheme: name of a scheme, or a :class:`Scheme`.
        exclude: patterns (``fnmatch``) of layers to leave in float, by name or path, e.g. ``"*box_head*"``.
        override: pattern -> bits of its layers, ``{"stem*": {"activation_bits": 16}, "head": {"kernel_bits": 4}}``;
            of several that match, later ones win.
        calibration_data: images that set the first ranges: an array (N, H, W, C), a batched ``tf.data.Dataset``, or any
            iterable of batches; of tuples and ``{"images": ...}`` the images are taken. :func:`calibrate` says how to
            pass several inputs. Without it, the first training batches set them.
        observer: how ranges are read off the calibration data, see :func:`calibrate`.
        max_calibration_batches: as ``max_batches`` of :func:`calibrate`.

    Returns:
        The same model.

    Raises:
        ValueError: activations of 16 bits where LiteRT has no operator for them, operations that no file can hold,
            variables that are not float32;
            the model is not built; it is quantized already, with another scheme or other patterns, or holds
            layers that were quantized in a model where other ranges are right; a pattern matches nothing; the
            calibration data is empty or holds NaN. The model is then left as it was.
        KeyError: no scheme has that name.

    Example:
        >>> quantize_aware(detector, "edge_int8", calibration_data=train.take(16))
        >>> detector.compile(...)
        >>> detector.fit(train, epochs=3, callbacks=[QuantizationSchedule()])
    """
    scheme = get_scheme(scheme)
    task = task_of(model)
    selection = Selection(model, scheme, exclude, override, task.keep_float if task else ())
    check_again(model, scheme, selection)
    check_policies(model)
    check_stateless(model)
    trace = Trace(model)
    check_operations(trace, scheme)
    check_integer_input(trace, scheme)
    if scheme.target != "tensorrt":
        check_bare_operations(trace, scheme)
    placement = place(trace, selection)
    if not placement.sites and not placement.kernels:
        raise ValueError(f"{type(model).__name__} {model.name!r} has no layer that {scheme.name!r} can quantize.")
    for reason, names in _by_reason(placement.unsupported).items():
        stay = "it stays" if len(names) == 1 else f"all {len(names)} stay"
        warnings.warn(f"{', '.join(names)}: {reason}; {stay} in float.", stacklevel=2)
    if scheme.target != "tensorrt":
        check_resizing(trace, placement)
        check_numbers(trace, placement)
        check_bare_forms(trace, placement)
        check_changes(trace, placement)
    check_completes(model, trace, placement, biases_of(trace, placement, scheme))
    before, complete = quantization_state(model), complete_descriptions()
    as_now = WITH_ACTIVATIONS in (quantization_of(model) or (WITH_ACTIVATIONS,))  # else a model of 0.1.0
    try:
        attach(trace, placement, scheme)
        if scheme.target != "tensorrt":
            check_16_bits(model)
        as_quantized_model(
            model,
            {
                "scheme": scheme.to_dict(),
                "exclude": list(selection.exclude),
                "override": selection.override,
                "calls": len(trace.calls),
                "unsupported": placement.unsupported,
                **({WITH_ACTIVATIONS: True} if as_now else {}),
                **placement_to_dict(placement),
            },
        )
        check_others(model, complete)
        if calibration_data is not None:
            calibrate(model, calibration_data, observer, max_batches=max_calibration_batches)
    except BaseException:  # an interrupt too: the model goes back to what it was
        restore_quantization(model, before)
        raise
    return model


def quantize_post_training(
    model: Any,
    scheme: str | Scheme = "edge_int8",
    *,
    calibration_data: Any,
    exclude: Sequence[str] = (),
    override: Mapping[str, Mapping[str, int]] | None = None,
    observer: Any = "min_max",
    max_calibration_batches: int | None = None,
) -> Any:
    """Quantizes a trained model without training: the same machinery as :func:`quantize_aware`, calibrated only.

    Args:
        model: a built, trained Keras model; changed in place.
        scheme: name of a scheme, or a :class:`Scheme`.
        calibration_data: as in :func:`quantize_aware`; a hundred images or so, like those it will meet.
        exclude: as in :func:`quantize_aware`.
        override: as in :func:`quantize_aware`.
        observer: as in :func:`quantize_aware`.
        max_calibration_batches: as in :func:`quantize_aware`.

    Returns:
        The same model, ready for ``export_model``.

    Raises:
        ValueError: no calibration data, a model that is not built or is quantized with another scheme.

    Example:
        >>> export_model(quantize_post_training(model, calibration_data=images), "model.tflite")
    """
    if calibration_data is None:
        raise ValueError("Post-training quantization reads its ranges off data: pass calibration_data=images.")
    return quantize_aware(
        model,
        scheme,
        exclude=exclude,
        override=override,
        calibration_data=calibration_data,
        observer=observer,
        max_calibration_batches=max_calibration_batches,
    )


def _by_reason(unsupported: dict[str, str]) -> dict[str, list[str]]:
    """Why layers stay in float, and which: one warning a reason, not one a layer."""
    reasons: dict[str, list[str]] = {}
    for name, reason in unsupported.items():
        reasons.setdefault(reason, []).append(name)
    return reasons
