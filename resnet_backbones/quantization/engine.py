"""Quantizes a whole model in place: finds the places, hangs the quantizers there, sets their ranges."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from resnet_backbones.quantization import context
from resnet_backbones.quantization.hooks import hook, hook_of, hooks_of, quantizers_of
from resnet_backbones.quantization.model import as_quantized_model
from resnet_backbones.quantization.placement import Placement, place, placement_to_dict
from resnet_backbones.quantization.schemes import Scheme, get_scheme
from resnet_backbones.quantization.trace import Trace
from resnet_backbones.tasks import task_of


def quantize_aware(
    model: Any,
    scheme: str | Scheme = "edge_int8",
    *,
    exclude: Sequence[str] = (),
    calibration_data: Any = None,
) -> Any:
    """Makes a model train and run as it will in int8, in place, as Keras' own ``quantize()`` does.

    Works on any built model: functional, nested, or a subclassed task such as a KerasCV detector, in Keras 3 and
    tf_keras. Call it once; go on with ``compile`` and ``fit``. A model that was compiled keeps its optimizer but
    builds its train step anew.

    Args:
        model: a built Keras model.
        scheme: name of a scheme, or a :class:`Scheme`.
        exclude: patterns (``fnmatch``) of layer names to leave in float.
        calibration_data: images that set the first ranges: an array (N, H, W, C), a batched ``tf.data.Dataset``, or any
            iterable of batches; of tuples and ``{"images": ...}`` the images are taken. Without it, the first
            training batches set them.

    Returns:
        The same model.

    Raises:
        ValueError: the model is not built, or is quantized with another scheme.
        KeyError: no scheme has that name.

    Example:
        >>> quantize_aware(detector, "edge_int8", calibration_data=train.take(16))
        >>> detector.compile(...)
        >>> detector.fit(train, epochs=3, callbacks=[QuantizationSchedule()])
    """
    scheme = get_scheme(scheme)
    _check_scheme(model, scheme)
    task = task_of(model)
    patterns = [*exclude, *(task.keep_float if task else ())]
    trace = Trace(model)
    placement = place(trace, patterns)
    if not placement.sites and not placement.kernels:
        raise ValueError(f"{type(model).__name__} {model.name!r} has no layer that {scheme.name!r} can quantize.")
    for reason, names in _by_reason(placement.unsupported).items():
        stay = "it stays" if len(names) == 1 else f"all {len(names)} stay"
        warnings.warn(f"{', '.join(names)}: {reason}; {stay} in float.", stacklevel=2)
    apply_placement(trace, placement, scheme)
    as_quantized_model(
        model,
        {
            "scheme": scheme.to_dict(),
            "exclude": list(patterns),
            "calls": len(trace.calls),
            "unsupported": placement.unsupported,
            **placement_to_dict(placement),
        },
    )
    if calibration_data is not None:
        calibrate(model, calibration_data)
    return model


def quantize_post_training(
    model: Any, scheme: str | Scheme = "edge_int8", *, calibration_data: Any, exclude: Sequence[str] = ()
) -> Any:
    """Quantizes a trained model without training: the same machinery as :func:`quantize_aware`, calibrated only.

    Args:
        model: a built, trained Keras model; changed in place.
        scheme: name of a scheme, or a :class:`Scheme`.
        calibration_data: as in :func:`quantize_aware`; a hundred images or so, like those it will meet.
        exclude: patterns (``fnmatch``) of layer names to leave in float.

    Returns:
        The same model, ready for ``export_model``.

    Raises:
        ValueError: no calibration data, a model that is not built or is quantized with another scheme.

    Example:
        >>> export_model(quantize_post_training(model, calibration_data=images), "model.tflite")
    """
    if calibration_data is None:
        raise ValueError("Post-training quantization reads its ranges off data: pass calibration_data=images.")
    return quantize_aware(model, scheme, exclude=exclude, calibration_data=calibration_data)


def calibrate(model: Any, data: Any) -> Any:
    """Sets every range anew, to the smallest and largest value seen on the data.

    The model runs in inference mode and in float, so batch norm statistics and weights stay as they are.

    Args:
        model: a quantized model.
        data: as ``calibration_data`` of :func:`quantize_aware`.

    Returns:
        The same model.

    Raises:
        ValueError: the model is not quantized, or the data is empty.
    """
    quantizers = quantizers_of(model)
    if not quantizers:
        raise ValueError(f"{type(model).__name__} {model.name!r} is not quantized: call quantize_aware(model) first.")
    with context.use_mode(context.CALIBRATE):  # the mode is read while the function is traced, at its first call
        observe = tf.function(lambda images: model(images, training=False), autograph=False, reduce_retracing=True)
        batches = 0
        for images in tqdm(image_batches(data), desc="calibrating", unit="batch", leave=False):
            if batches == 0:
                for quantizer in quantizers:
                    quantizer.reset()
            observe(images)
            batches += 1
    if batches == 0:
        raise ValueError("The calibration data is empty, so there is nothing to read ranges from.")
    return model


def image_batches(data: Any, batch_size: int = 16) -> Iterable[Any]:
    """Batches of images from an array, a data set or any iterable of batches, labels dropped.

    Args:
        data: (N, H, W, C) array or tensor, or an iterable of batches: images, ``(images, labels, ...)`` or a
            dictionary with ``"images"``.
        batch_size: images a batch, for arrays.
    """
    if isinstance(data, np.ndarray) or tf.is_tensor(data):
        if len(data.shape) < 2:
            raise ValueError(f"Images are an array with a batch axis, such as (N, H, W, C); got shape {data.shape}.")
        batches = (data[start : start + batch_size] for start in range(0, len(data), batch_size))
    else:
        batches = data
    for batch in batches:
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        images = images["images"] if isinstance(images, dict) and "images" in images else images
        yield tf.nest.map_structure(tf.convert_to_tensor, images)


def apply_placement(trace: Trace, placement: Placement, scheme: Scheme) -> None:
    """Hangs quantizers where the placement says. A point that already has one keeps it, with its range."""
    calls = trace.calls
    for site in placement.sites:
        (owner, port), *readers = [(calls[order], port) for order, port in site.points]
        quantizer = hook(owner.layer, scheme).own_quantizer(owner.index, port, site.fixed_range)
        for reader, reader_port in readers:
            hook(reader.layer, scheme).quantizers.setdefault((reader.index, reader_port), quantizer)
    for order in placement.kernels:
        hook(calls[order].layer, scheme).quantize_kernels()
    for order in placement.batch_norms:
        hook(calls[order].layer, scheme).control_statistics()
    for order in placement.lone_batch_norms:
        hook(calls[order].layer, scheme).stands_alone = True
    for call in calls:
        found = hook_of(call.layer)
        if found is not None:
            found.call_sites = max(found.call_sites, call.index + 1)


def _by_reason(unsupported: dict[str, str]) -> dict[str, list[str]]:
    """Why layers stay in float, and which: one warning a reason, not one a layer."""
    reasons: dict[str, list[str]] = {}
    for name, reason in unsupported.items():
        reasons.setdefault(reason, []).append(name)
    return reasons


def _check_scheme(model: Any, scheme: Scheme) -> None:
    for found in hooks_of(model):
        present = found.scheme.name
        if found.scheme != scheme:
            raise ValueError(
                f"{type(model).__name__} {model.name!r} is already quantized with scheme {present!r}; one model has "
                f"one scheme. Pass scheme={present!r}, or quantize a fresh float model with {scheme.name!r}."
            )
