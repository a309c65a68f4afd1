"""Where the error of a quantized model comes from: each layer call against the same model in float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from resnet_backbones._util.noise import cosine, decibel, relative_noise
from resnet_backbones.quantization import context
from resnet_backbones.quantization.analysis.report import LayerError, QuantizationReport
from resnet_backbones.quantization.analysis.switches import RoundingSource, Switches, switching
from resnet_backbones.quantization.calibration import image_batches
from resnet_backbones.quantization.hooks import hooks_of, quantizers_of, range_labels
from resnet_backbones.quantization.interception import intercepted, noting
from resnet_backbones.quantization.placement.selection import layer_labels


def analyse(model: Any, data: Any, *, batch_size: int = 16) -> QuantizationReport:
    """Measures how much error each quantized layer call carries, and how much it adds by itself.

    The error of a call *at it* is that of all quantization before it and its own. What it adds *alone* is measured
    where it counts, at the model's outputs: the model runs once for every range and every kernel, with nothing else
    rounding. Of several outputs, the noise is averaged relative to each one's signal; noise of a call's ranges and
    kernels is added up. A kernel shared by several calls is switched in all of them, and counts with each.

    Args:
        model: a quantized, calibrated model; it is left as it is.
        data: images as in :func:`calibrate`; a batch or two will do.
        batch_size: images a batch, for arrays.

    Returns:
        The report, worst first: ``print`` it, ``.to_dict()``, ``.plot("error.png")``.

    Raises:
        ValueError: the model is not quantized or not calibrated, or the data is empty.

    Example:
        >>> print(analyse(detector, images[:16]))
    """
    check_calibrated(model)
    batches = list(image_batches(data, batch_size))
    if not batches:
        raise ValueError("The data is empty, so there is nothing to measure errors on.")
    calls = _errors_at_calls(model, batches)
    with switching(model) as switches:
        noise = noise_of(model, switches, batches, [[source] for source in switches.sources] + [switches.sources])
    by_source = dict(zip(switches.sources, noise, strict=False))
    paths = layer_labels(model)
    rows = []
    for hook in hooks_of(model):
        for index in range(hook.call_sites):
            if (id(hook.layer), index) not in calls:
                continue
            path = paths[id(hook.layer)]
            kernel = by_source.get(RoundingSource(hook.layer, None, "kernel"))
            of_ranges = [value for key, value in by_source.items() if (key.layer, key.call) == (hook.layer, index)]
            if kernel is not None or of_ranges:
                ranges = sum(of_ranges) if of_ranges else None
                alone = decibel((kernel or 0.0) + (ranges or 0.0))
                parts = (None if part is None else decibel(part) for part in (kernel, ranges))
                rows.append(LayerError(path, index, *calls[id(hook.layer), index], alone, *parts))
    rows.sort(key=lambda row: row.alone)
    images = sum(int(tf.nest.flatten(batch)[0].shape[0]) for batch in batches)
    return QuantizationReport(model.name, images, decibel(noise[-1]), tuple(rows))


def check_calibrated(model: Any) -> None:
    """Refuses a float model, and one whose ranges nothing has set.

    Raises:
        ValueError: either.
    """
    if not hooks_of(model):
        raise ValueError(f"{type(model).__name__} {model.name!r} is not quantized: call quantize_aware(model) first.")
    unset = [one for one in quantizers_of(model) if not one.has_range]
    if unset:
        first = range_labels(model)[id(unset[0])]
        raise ValueError(
            f"{len(unset)} ranges of {model.name!r} are unset, such as {first!r}: call calibrate(model, data), "
            "or train."
        )


def noise_of(
    model: Any, switches: Switches, batches: Sequence[Any], choices: Sequence[Sequence[RoundingSource]]
) -> list[float]:
    """Noise at the model's outputs, relative to their signal, for each choice of what rounds.

    Args:
        model: the quantized model.
        switches: its switches, entered.
        batches: batches of images.
        choices: for each result, the sources that round.
    """
    run = tf.function(lambda images: _floats(model(images, training=False)), autograph=False, reduce_retracing=True)
    switches.only(())
    expected = [[value.numpy().astype("float64") for value in run(images)] for images in batches]
    signal = [sum(float(np.sum(values**2)) for values in output) for output in zip(*expected, strict=True)]
    results = []
    for choice in tqdm(choices, desc="analysing", unit="run", leave=False, delay=2):
        switches.only(choice)
        noise = [0.0] * len(signal)
        for images, reference in zip(batches, expected, strict=True):
            for number, (found, wanted) in enumerate(zip(run(images), reference, strict=True)):
                noise[number] += float(np.sum((found.numpy() - wanted) ** 2))
        ratios = [relative_noise(whole, part) for part, whole in zip(noise, signal, strict=True)]
        results.append(float(np.mean(ratios)))
    return results


def _errors_at_calls(model: Any, batches: Sequence[Any]) -> dict[tuple[int, int], tuple[float, float]]:
    """(id of a layer, call) -> SQNR in dB and cosine of what it returns, quantized against float."""
    hooked = [hook.layer for hook in hooks_of(model)]
    order: list[tuple[int, int]] = []

    def outputs_of_calls(images, mode):
        found: dict[tuple[int, int], list[tf.Tensor]] = {}

        def note(layer, index, outputs):
            found[id(layer), index] = _floats(outputs)

        with context.use_mode(mode), intercepted(hooked, noting(note)):
            model(images, training=False)
        return found

    def sums(images):
        exact, rounded = outputs_of_calls(images, context.FLOAT), outputs_of_calls(images, context.QUANTIZE)
        order[:] = list(exact)
        return [_sums(exact[key], rounded[key]) for key in order]

    run = tf.function(sums, autograph=False, reduce_retracing=True)
    totals = sum(np.array([values.numpy() for values in run(images)], "float64") for images in batches)
    errors = {}
    for key, (signal, noise, product, power) in zip(order, totals, strict=True):  # type: ignore[call-overload]
        errors[key] = decibel(relative_noise(signal, noise)), cosine(signal, product, power)
    return errors


def _sums(exact: Sequence[tf.Tensor], rounded: Sequence[tf.Tensor]) -> tf.Tensor:
    """Sums over all values: float squared, difference squared, product, quantized squared."""
    pairs = list(zip(exact, rounded, strict=True))
    terms = [[x * x for x, _ in pairs], [(y - x) ** 2 for x, y in pairs], [x * y for x, y in pairs]]
    terms.append([y * y for _, y in pairs])
    return tf.stack([tf.add_n([tf.reduce_sum(values) for values in term]) for term in terms])


def _floats(outputs: Any) -> list[tf.Tensor]:
    """The tensors of floating type in a nest, as float32."""
    flat = [tf.convert_to_tensor(value) for value in tf.nest.flatten(outputs)]
    return [tf.cast(value, tf.float32) for value in flat if value.dtype.is_floating]
