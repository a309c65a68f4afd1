"""Sets the ranges of a quantized model from data: all of them, or none if anything is wrong with the data."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
import weakref
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from resnet_backbones.keras_compat import input_signature
from resnet_backbones.quantization import context
from resnet_backbones.quantization.hooks import quantizers_of, range_labels
from resnet_backbones.quantization.input_units import warn_of_other_units
from resnet_backbones.quantization.observers import BINS, Observer, Seen, get_observer
from resnet_backbones.quantization.quantizers import ActivationQuantizer

READ = (
    "Pictures are brought to the model's size and channels with PIL.Image.open(path).convert('RGB').resize((width, "
    "height)); give numpy.stack of them."
)
_SAMPLE = 4  # images that are kept of the calibration data
_samples: weakref.WeakKeyDictionary[Any, np.ndarray] = weakref.WeakKeyDictionary()
MOST_BATCHES = 256  # that are read of data without a known end


def calibrate(model: Any, data: Any, observer: str | Observer = "min_max", *, max_batches: int | None = None) -> Any:
    """Sets every range anew, from what the data makes each layer compute.

    The model runs in inference mode and in float, so batch norm statistics and weights stay as they are. Ranges change
    only after the last batch, all at once: whatever goes wrong before, they stay what they were.

    Args:
        model: a quantized model.
        data: images, or whatever the model takes: an array (N, H, W, C), a batched ``tf.data.Dataset``, a list of
            Pillow's pictures, or any iterable of batches, a generator too; of tuples and ``{"images": ...}`` the images
            are taken. For a model of several inputs: a dictionary of arrays by input name, batches of such
            dictionaries, or batches ``((left, right), labels)``.
        observer: ``"min_max"`` (all that was seen), ``"moving_average"`` (of the batches' bounds), ``"percentile"``
            (99.99 % of the values), ``"mse"`` (least squared error), or an instance such as ``Percentile(99.9)``.
        max_batches: most batches to read. ``None``: all of what has a known end; of a generator, a repeated data set
            and the like the first 256, with a warning if there are more.

    Returns:
        The same model.

    Raises:
        ValueError: the model is not quantized; the data is empty or of a wrong shape, lacks an input, or holds NaN or
            infinity, or makes a layer compute them (the message names the layer); ``max_batches`` is below 1.
        TypeError: the data is neither an array nor an iterable of batches.
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
    batches, sample = 0, None
    given = image_batches(data, inputs=run.inputs, most=max_batches, name="The calibration data")
    for images in tqdm(given, desc="calibrating", unit="batch", leave=False, delay=2, total=_count(data, max_batches)):
        batches += 1
        run(images, batches, seen)
        if batches == 1:
            warn_of_other_units(model, images, "The calibration data")
            sample = images[:_SAMPLE].numpy() if tf.is_tensor(images) else None
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
    before = [quantizer.get_weights() for quantizer in quantizers]
    try:
        for quantizer, bounds in zip(quantizers, ranges, strict=True):
            if bounds is None:  # no batch came by: the layer is not called in inference
                quantizer.reset()
            else:
                low, high = bounds
                quantizer.set_range(low, high, batches=batches)
    except BaseException:  # an interrupt, too
        for quantizer, weights in zip(quantizers, before, strict=True):
            quantizer.set_weights(weights)
        raise
    _samples.pop(model, None)
    if sample is not None:
        _samples[model] = sample
    return model


def calibration_sample(model: Any) -> np.ndarray | None:
    """A few of the images that a model was last calibrated on in this process; ``None`` where there are none.

    Args:
        model: any model.
    """
    return _samples.get(model)


class _Run:
    """Runs the model on a batch and adds what its quantizers saw."""

    def __init__(self, model: Any, histograms: bool) -> None:
        self._model, self._histograms = model, histograms
        #: The names of the model's inputs; empty where they cannot be told.
        self.inputs = tuple(tensor.name.split(":")[0] for tensor in getattr(model, "inputs", None) or ())
        self._shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
        self._quantizers: list[ActivationQuantizer] = []
        self._observe = tf.function(lambda images: self._traced(images), autograph=False, reduce_retracing=True)

    def _traced(self, images):
        records: list[tuple[Any, Any]] = []
        with context.use_mode(context.CALIBRATE), context.using(records=records):
            self._model(images, training=False)
        self._quantizers = [quantizer for quantizer, _ in records]
        return [_statistics(values, self._histograms) for _, values in records]

    def __call__(self, images: Any, number: int, seen: dict[int, Seen]) -> None:
        given = tf.nest.flatten(images)
        if self.inputs and len(given) != len(self.inputs):
            raise ValueError(self._wrong_inputs(len(given), number))
        for tensor in given:
            if tensor.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(tensor))):
                raise ValueError(
                    f"Batch {number} of the calibration data holds NaN or infinity; no range was changed. Clean the "
                    "images, or their preprocessing, and calibrate again."
                )
        named = isinstance(images, dict) and set(self.inputs) <= set(images)
        for tensor, of in zip([images[key] for key in self.inputs] if named else given, self._shapes, strict=False):
            if len(of) == len(tensor.shape) and not tensor.shape.is_compatible_with(of):
                raise ValueError(self._wrong_shape(images, number))  # a function of open sizes would not
        try:
            found = self._observe(images)
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(self._wrong_shape(images, number)) from error
        for quantizer, statistics in zip(self._quantizers, found, strict=True):
            finite, low, high, counts = (value.numpy() for value in statistics)
            if not finite:
                layer, _, port = range_labels(self._model)[id(quantizer)].rpartition(", ")
                raise ValueError(
                    f"On batch {number} of the calibration data, layer {layer!r} has NaN or infinity at its {port}; "
                    "no range was changed. Its weights may hold NaN, or its values overflow half precision."
                )
            if id(quantizer) in seen:
                seen[id(quantizer)].add(float(low), float(high))
                if self._histograms:
                    seen[id(quantizer)].add_histogram(_edges(low, high), counts)

    def _wrong_inputs(self, given: int, number: int) -> str:
        count = f"{len(self.inputs)} inputs" if len(self.inputs) > 1 else "1 input"
        message = f"The model takes {count}, {', '.join(self.inputs)}; batch {number} of the calibration data holds "
        message += f"{given}. No range was changed. "
        if len(self.inputs) == 1:
            return message + "Give one tensor per batch, or (images, labels)."
        by_name = ", ".join(f"{name!r}: ..." for name in self.inputs)
        return message + f"Give batches {{{by_name}}}, or (({', '.join(self.inputs)}), labels)."

    def _wrong_shape(self, images: Any, number: int) -> str:
        shapes = tf.nest.map_structure(lambda tensor: tuple(tensor.shape), images)
        expected = tf.nest.map_structure(lambda spec: tuple(spec.shape), input_signature(self._model))
        types = ", ".join(dict.fromkeys(tensor.dtype.name for tensor in tf.nest.flatten(images)))
        message = f"The model does not run on batch {number} of the calibration data, {types} of shape {shapes}"
        message += f": it takes {expected}. No range was changed."
        if not (isinstance(shapes, tuple) and isinstance(expected, tuple)):
            return message
        if len(shapes) == len(expected) - 1:
            message += " The batch axis is missing: add .batch(16) to the data set, or images[None] to an image."
        elif len(shapes) == len(expected) == 4:
            message += f" {READ}"
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


def image_batches(
    data: Any,
    batch_size: int = 16,
    *,
    inputs: Sequence[str] = (),
    most: int | None = None,
    name: str = "The data",
) -> Iterator[Any]:
    """Batches of what a model takes from an array, a data set or any iterable of batches, labels dropped.

    Args:
        data: (N, H, W, C) array or tensor; a dictionary of such by input name; or an iterable of batches: images,
            ``(images, labels, ...)`` or a dictionary with ``"images"`` or with the inputs' names.
        batch_size: images a batch, for arrays.
        inputs: names of the model's inputs, where it has several.
        most: batches to read; ``None``: all of what has a known end, else ``MOST_BATCHES`` and a warning.
        name: of the data, for messages.

    Raises:
        ValueError: ``most`` is below 1, or an array without a batch axis.
        TypeError: neither an array nor an iterable of batches.
    """
    if most is not None and most < 1:
        raise ValueError(f"The number of batches to read must be at least 1, got {most}.")
    data = _stacked(_as_numpy(data))
    if isinstance(data, dict):
        data = {key: _stacked(_as_numpy(value)) for key, value in data.items()}
    if _is_array(data) or (isinstance(data, dict) and data and all(map(_is_array, data.values()))):
        arrays = tf.nest.flatten(data)
        shapes = ", ".join(str(tuple(array.shape)) for array in arrays)
        if any(len(array.shape) < (2 if _is_array(data) else 1) for array in arrays):
            raise ValueError(f"{name} must have a batch axis, as images (N, H, W, C) have; got shape {shapes}.")
        count = len(arrays[0])
        if any(len(array) != count for array in arrays):
            raise ValueError(f"{name} must have as many entries of each input; got shapes {shapes}.")
        starts = range(0, count, batch_size)
        batches: Iterable[Any] = (
            tf.nest.map_structure(lambda array, at=start: array[at : at + batch_size], data) for start in starts
        )
    elif (
        isinstance(data, str | bytes | os.PathLike | dict | set | frozenset | np.generic)
        or type(data).__name__ in ("KerasTensor", "RaggedTensor", "SparseTensor")
        or not (isinstance(data, Iterable) or hasattr(data, "__getitem__"))
    ):
        raise TypeError(
            f"{name} must be an array, a dictionary of arrays, a batched tf.data.Dataset or an iterable of batches, "
            f"not {type(data).__name__}."
        )
    else:
        batches = data
    limit = most if most is not None else _length(data) if _length(data) is not None else MOST_BATCHES
    for number, batch in enumerate(batches):
        if number == limit:
            if most is None and _length(data) is None:
                warnings.warn(
                    f"{name} has no known end: the first {limit} batches were read. Give data.take(n), or say how many "
                    "batches to read (max_batches=, max_calibration_batches=).",
                    stacklevel=2,
                )
            return
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        if isinstance(images, dict) and len(inputs) > 1 and set(inputs) <= set(images):
            images = {key: images[key] for key in inputs}
        elif isinstance(images, dict) and "images" in images and len(inputs) < 2:
            images = images["images"]
        if isinstance(images, str | bytes | os.PathLike):
            raise ValueError(f"{name} holds paths or text, such as {images!r:.80}, where images are wanted. {READ}")
        try:
            yield tf.nest.map_structure(lambda one: tf.convert_to_tensor(_as_numpy(one)), images)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Batch {number + 1} of {name[0].lower()}{name[1:]} cannot become a tensor ({error}): give arrays of "
                "numbers, of one shape each."
            ) from error


def _as_numpy(data: Any) -> Any:
    """A tensor of torch as an array, a picture of Pillow as a batch of one; anything else as it is."""
    if not _is_picture(data):
        return data.detach().cpu().numpy() if hasattr(data, "detach") else data
    if data.mode not in ("L", "RGB", "RGBA"):
        raise ValueError(f"a picture of mode {data.mode!r} must be converted, picture.convert('RGB')")
    return np.asarray(data).reshape(1, data.height, data.width, -1)


def _is_picture(data: Any) -> bool:
    """Whether it is an image of Pillow, which is not imported for that."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(data, pillow.Image)


def _stacked(data: Any) -> Any:
    """A list of pictures that are alike as one array; anything else as it is."""
    pictures = isinstance(data, (list, tuple)) and all(map(_is_picture, data))
    if pictures and len({(picture.size, picture.mode) for picture in data}) == 1:
        return np.concatenate([_as_numpy(picture) for picture in data])
    return data


def _is_array(data: Any) -> bool:
    return isinstance(data, (np.ndarray, tf.Tensor, tf.Variable))


def _length(data: Any) -> int | None:
    """Batches of data that says how many it has; ``None`` for endless data and such as does not know."""
    if _is_array(data) or isinstance(data, dict):
        return sys.maxsize
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        return count if count >= 0 else None
    with contextlib.suppress(TypeError):  # of tf_keras' symbolic tensors, which are refused later
        return len(data) if isinstance(data, Sized) else None
    return None


def _count(data: Any, most: int | None) -> int | None:
    """How many batches a progress bar waits for."""
    found = [count for count in (_length(data), most) if count is not None and count < sys.maxsize]
    return min(found) if found else None
