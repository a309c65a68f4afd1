"""Where the error of a file enters: its tensors against what the Keras model's layers return."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones._util.noise import cosine, decibel, relative_noise
from resnet_backbones.export.contents import Census, Intermediates
from resnet_backbones.export.sources import Sources
from resnet_backbones.quantization.interception import intercepted, noting
from resnet_backbones.quantization.rules import role_of
from resnet_backbones.quantization.trace import LeafCall


@dataclass(frozen=True)
class LayerParity:
    """One tensor of the file against the Keras layer call that returns it.

    Attributes:
        layer: path of the layer, of several fused into one operator the one with a kernel; ``#1`` behind it is its
            second call.
        sqnr: signal to noise ratio in dB, the Keras value being the signal; 200 where they are equal.
        cosine: between the two.
        added: ratio in dB of the noise that enters here: what this tensor has more of, relative to its signal, than the
            worst of the tensors it is computed from; 200 where it has none more.
    """

    layer: str
    sqnr: float
    cosine: float
    added: float


def compare_layers(
    taps: dict[str, LeafCall],
    run: Intermediates,
    model: Callable[[np.ndarray], Any],
    batches: Iterable[np.ndarray],
    sources: Sources,
    census: Census,
) -> list[LayerParity]:
    """Compares the file's tensors with what layers return, on the same images.

    A Keras value whose own range stands further on is first rounded to the steps of the file's tensor, but not clipped:
    what remains is error, not the rounding that both have.

    Args:
        taps: name of a tensor in the file -> the call that returns it.
        run: the file, giving those tensors.
        model: the Keras model in the form that was exported.
        batches: images, as both take them.
        sources: which calls there are.
        census: the file's operators, in order; they say what is computed from what.

    Returns:
        An entry a tensor, in the file's order.
    """
    sums: dict[str, np.ndarray] = {}
    for images in batches:
        found, expected = run(images), _returned(model, images, set(taps.values()), sources)
        for name, call in taps.items():
            if name in found and call in expected:
                sums[name] = sums.get(name, np.zeros(4)) + _sums(expected[call], *found[name])
    noise = {name: relative_noise(*values[:2]) for name, values in sums.items()}
    before = _noise_before(noise, census)
    return [
        LayerParity(
            _label(name, taps[name], sources, census),
            decibel(noise[name]),
            cosine(*sums[name][[0, 2, 3]]),
            decibel(noise[name] - before[name]),
        )
        for name in noise
    ]


def _label(name: str, call: LeafCall, sources: Sources, census: Census) -> str:
    """The layer whose kernel is multiplied by, where there is one: "activation_3" behind it says little."""
    multiplies = any(op.output == name and op.macs for op in census.operators)
    found = sources.weighted(name) if multiplies or role_of(call.layer) == "batch_norm" else None
    return sources.label(call if found is None else found[0])


def _returned(model: Any, images: np.ndarray, wanted: set[LeafCall], sources: Sources) -> dict[LeafCall, np.ndarray]:
    by_key = {(id(call.layer), call.index): call for call in wanted}
    returned: dict[LeafCall, np.ndarray] = {}

    def note(layer, index, outputs):
        entry = by_key.get((id(layer), index))
        if entry is not None:
            returned[entry] = np.asarray(tf.nest.flatten(outputs)[0], np.float32)

    with intercepted(sources.layers, noting(note)):
        model(images)
    return returned


def _sums(expected: np.ndarray, found: np.ndarray, step: float | None) -> np.ndarray:
    """Sums over all values: Keras' squared, difference squared, product, the file's squared."""
    signal = expected.astype(np.float64)
    if step is not None:
        signal = np.round(signal / step) * step
    value = found.astype(np.float64)
    return np.array([np.sum(signal**2), np.sum((value - signal) ** 2), np.sum(signal * value), np.sum(value**2)])


def _noise_before(noise: dict[str, float], census: Census) -> dict[str, float]:
    """For each tensor the most noise of the nearest tensors before it that were measured."""
    reads = {name: op.inputs for op in census.operators for name in (op.output, *op.others)}
    reads |= {name: (source,) for name, source in census.rounded.items()}

    def nearest(name: str) -> float:
        worst, todo, seen = 0.0, list(reads[name]), set()
        while todo:
            source = todo.pop()
            if source in noise:
                worst = max(worst, noise[source])
            elif source in reads and source not in seen:
                seen.add(source)
                todo.extend(reads[source])
        return worst

    return {name: nearest(name) for name in noise}
