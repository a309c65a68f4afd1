"""Sets the ranges of a quantized model from data: all of them, or none if anything is wrong with the data."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from resnet_backbones.backbone import Backbone
from resnet_backbones.keras_api import input_signature, leaf_and_nested_layers
from resnet_backbones.quantization import context
from resnet_backbones.quantization.hooks import quantizers_of
from resnet_backbones.quantization.observers import BINS, Observer, Seen, get_observer
from resnet_backbones.quantization.quantizers import ActivationQuantizer

_OF_BYTES = 1 / 50  # preprocessing with smaller scales is made for images of 0 to 255


def calibrate(model: Any, data: Any, observer: str | Observer = "min_max") -> Any:
    """Sets every range anew, from what the data makes each layer compute.

    The model runs in inference mode and in float, so batch norm statistics and weights stay as they are. Ranges change
    only after the last batch, all at once: whatever goes wrong before, they stay what they were.

    Args:
        model: a quantized model.
        data: images: an array (N, H, W, C), a batched ``tf.data.Dataset``, or any iterable of batches, a generator
            too; of tuples and ``{"images": ...}`` the images are taken.
        observer: ``"min_max"`` (all that was seen), ``"moving_average"`` (of the batches' bounds), ``"percentile"``
            (99.99 % of the values), ``"mse"`` (least squared error), or an instance such as ``Percentile(99.9)``.

    Returns:
        The same model.

    Raises:
        ValueError: the model is not quantized; the data is empty or of a wrong shape, or holds NaN or infinity, or
            makes a layer compute them (the message names the layer).
        KeyError: no observer has that name.

    Example:
        >>> calibrate(model, train.take(16), observer="percentile")

    Source: Wu et al., "Integer Quantization for Deep Learning Inference", 2020, https://arxiv.org/abs/2004.09602
    """
    observer = get_observer(observer)
    quantizers = [quantizer for quantizer in quantizers_of(model) if quantizer.fixed_range is None]
    if not quantizers_of(model):
        raise ValueError(f"{type(model).__name__} {model.name!r} is not quantized: call quantize_aware(model) first.")
    seen: dict[int, Seen] = {id(quantizer): Seen() for quantizer in quantizers}
    run = _Run(model, observer.needs_histogram)
    batches = 0
    for images in tqdm(image_batches(data), desc="calibrating", unit="batch", leave=False):
        batches += 1
        if batches == 1:
            _warn_of_normalised(model, images)
        run(images, batches, seen)
    if batches == 0:
        raise ValueError("The calibration data is empty, so there is nothing to read ranges from.")
    ranges = []
    for quantizer in tqdm(quantizers, desc="ranges", unit="range", leave=False, delay=2):
        found = seen[id(quantizer)]
        if found.lows:
            bounds = observer.range_of(found, quantizer.bits, quantizer.symmetric)
            ranges.append(quantizer.sound_range(*bounds))
        else:
            ranges.append(None)
    for quantizer, bounds in zip(quantizers, ranges, strict=True):
        if bounds is None:  # no batch came by: the layer is not called in inference
            quantizer.reset()
        else:
            low, high = bounds
            quantizer.set_range(low, high, batches=batches)
    return model


def _warn_of_normalised(model: Any, images: Any) -> None:
    """Images that look normalised would be normalised twice by a backbone that does it itself."""
    specs = [one.spec for one in (model, *leaf_and_nested_layers(model)) if isinstance(one, Backbone)]
    for wanted in [spec.preprocessing for spec in specs if spec is not None and spec.preprocessing is not None]:
        scales = wanted.scale if isinstance(wanted.scale, tuple) else (wanted.scale,)
        if max(scales) > _OF_BYTES or isinstance(images, (dict, tuple, list)) or not images.dtype.is_floating:
            continue
        low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
        if low < 0 or high <= 2:
            warnings.warn(
                f"The calibration data is between {low:.3g} and {high:.3g}, so it looks normalised already, and the "
                "backbone normalises images of 0 to 255 itself: it would happen twice, and every range be wrong. Give "
                "images of 0 to 255, or create the backbone with preprocessing=None.",
                stacklevel=3,
            )
            return


class _Run:
    """Runs the model on a batch and adds what its quantizers saw."""

    def __init__(self, model: Any, histograms: bool) -> None:
        self._model, self._histograms = model, histograms
        self._quantizers: list[ActivationQuantizer] = []
        self._observe = tf.function(lambda images: self._traced(images), autograph=False, reduce_retracing=True)

    def _traced(self, images):
        with context.use_mode(context.CALIBRATE), context.recording() as records:
            self._model(images, training=False)
        self._quantizers = [quantizer for quantizer, _ in records]
        return [_statistics(values, self._histograms) for _, values in records]

    def __call__(self, images: Any, number: int, seen: dict[int, Seen]) -> None:
        for tensor in tf.nest.flatten(images):
            if tensor.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(tensor))):
                raise ValueError(
                    f"Batch {number} of the calibration data holds NaN or infinity; no range was changed. Clean the "
                    "images, or their preprocessing, and calibrate again."
                )
        try:
            found = self._observe(images)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise ValueError(self._wrong_shape(images, number)) from error
        for quantizer, statistics in zip(self._quantizers, found, strict=True):
            finite, low, high, counts = (value.numpy() for value in statistics)
            if not finite:
                layer, _, point = quantizer.name.rpartition("_quantizer_")
                raise ValueError(
                    f"On batch {number} of the calibration data, layer {layer!r} has NaN or infinity at its {point}; "
                    "no range was changed. Its weights may hold NaN, or its values overflow half precision."
                )
            if id(quantizer) in seen:
                seen[id(quantizer)].add(float(low), float(high))
                if self._histograms:
                    seen[id(quantizer)].add_histogram(_edges(low, high), counts)

    def _wrong_shape(self, images: Any, number: int) -> str:
        shapes = tf.nest.map_structure(lambda tensor: tuple(tensor.shape), images)
        expected = tf.nest.map_structure(lambda spec: tuple(spec.shape), input_signature(self._model))
        message = f"The model does not run on batch {number} of the calibration data, of shape {shapes}"
        message += f": it takes {expected}. No range was changed."
        if isinstance(shapes, tuple) and isinstance(expected, tuple) and len(shapes) == len(expected) - 1:
            message += " The batch axis is missing: add .batch(16) to the data set, or images[None] to an image."
        return message


def _statistics(values: tf.Tensor, histogram: bool) -> tuple[tf.Tensor, ...]:
    """(all finite, smallest, largest, counts) of a tensor, NaN and infinity counting as 0."""
    finite = tf.math.is_finite(values)
    values = tf.where(finite, values, 0.0)
    low, high = tf.reduce_min(values), tf.reduce_max(values)
    counts = tf.zeros([0], tf.int32)
    if histogram:
        edges = tf.stack([low, tf.maximum(high, low + _width(low))])
        counts = tf.histogram_fixed_width(tf.reshape(values, [-1]), edges, BINS)
    return tf.reduce_all(finite), low, high, counts


def _width(low):
    """The least width of a histogram whose values are all the same."""
    return 1e-3 * abs(low) + 1e-6


def _edges(low: float, high: float) -> np.ndarray:
    return np.linspace(low, max(high, low + _width(low)), BINS + 1)


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
