"""Which layers to leave in float, or to give 16-bit activations, for a wanted accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm.auto import tqdm

from resnet_backbones._util.noise import decibel
from resnet_backbones._util.text import as_text, table
from resnet_backbones.quantization.analysis import check_calibrated, noise_of
from resnet_backbones.quantization.analysis.switches import RoundingSource, switching
from resnet_backbones.quantization.analysis.trials import Trials
from resnet_backbones.quantization.calibration import image_batches
from resnet_backbones.quantization.model import quantization_of
from resnet_backbones.quantization.placement.selection import layer_patterns

LEAVES = ("float", "int16")


@dataclass(frozen=True)
class Step:
    """The patterns that one step added, how many there are by then, and the score with all of them."""

    added: tuple[str, ...]
    patterns: int
    score: float


@dataclass(frozen=True)
class ExclusionSuggestion:
    """What :func:`suggest_exclusions` found.

    Attributes:
        exclude: patterns to pass as ``exclude=``, beside those the model was quantized with.
        override: bits to pass as ``override=``, likewise.
        reached: whether the target was reached with them.
        target: the score to reach.
        float_score, quantized_score: the float model's, and that of the model as it is quantized now.
        steps: the score by each number of patterns, in the order they were added.
    """

    exclude: tuple[str, ...]
    override: dict[str, dict[str, int]]
    reached: bool
    target: float
    float_score: float
    quantized_score: float
    steps: tuple[Step, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "NOT reached"
        head = (
            f"target {self.target:.5g} {verdict}; float {self.float_score:.5g}, as quantized {self.quantized_score:.5g}"
        )
        rows = ((", ".join(step.added), str(step.patterns), f"{step.score:.5g}") for step in self.steps)
        title = (
            "Left in float, in this order" if self.exclude or not self.override else "Given other bits, in this order"
        )
        return as_text(head, table(title, ("added",), ("patterns", "score"), rows))


def suggest_exclusions(
    model: Any,
    data: Any,
    *,
    target: float,
    metric: Callable[[Any], float] | None = None,
    leave: str = "float",
    max_patterns: int | None = None,
    batch_size: int = 16,
) -> ExclusionSuggestion:
    """Picks layers to leave in float, or to give 16-bit activations, until the model is good enough.

    Greedy: of what still rounds, the range or kernel that alone does the outputs most harm (as in :func:`analyse`) is
    taken next. To have a tensor in float, all layers that would round it are left in float. The model is not quantized
    again for a trial: only the places of quantizers are worked out anew, and quantizers switched off. Values with 16
    bits count as exact here, and layers read ranges as calibrated now.

    Args:
        model: a quantized, calibrated model; it is left as it is.
        data: images that sensitivity is measured on, as in :func:`calibrate`; a batch or two will do.
        target: with ``metric``, the largest drop against the float model, in the metric's unit; without, the SQNR in
            dB wanted at the outputs.
        metric: function of the model that returns a score, larger for better, such as accuracy on validation images. It
            must call the model, or ``predict`` or ``evaluate`` of it, and no function traced earlier.
        leave: ``"float"``, or ``"int16"`` for 16-bit activations (and 8-bit kernels, where they have fewer).
        max_patterns: stop when there are this many.
        batch_size: images a batch, for arrays.

    Returns:
        The suggestion; with ``reached`` false where even all of it is not enough.

    Raises:
        ValueError: the model is not quantized as a whole or not calibrated, the data is empty, ``leave`` is unknown or
            ``target`` is negative for a metric.

    Example:
        >>> found = suggest_exclusions(model, images[:16], metric=accuracy, target=0.005)
        >>> quantize_post_training(fresh, exclude=found.exclude, override=found.override, calibration_data=images)

    Source: Wu et al., "Integer Quantization for Deep Learning Inference", 2020, section 5.2 (partial quantization),
    https://arxiv.org/abs/2004.09602
    """
    if leave not in LEAVES:
        raise ValueError(f"leave is one of {', '.join(map(repr, LEAVES))}; got {leave!r}.")
    if metric is not None and target < 0:
        raise ValueError(f"With a metric, target is the largest drop against float, 0 or more; got {target}.")
    check_calibrated(model)
    if quantization_of(model) is None:
        raise ValueError(f"Only a part of {model.name!r} is quantized: pass that part, or quantize_aware(model) first.")
    batches = list(image_batches(data, batch_size))
    if not batches:
        raise ValueError("The data is empty, so there is nothing to measure sensitivity on.")
    trials = Trials(model, leave)
    with switching(model) as switches:
        noise = noise_of(model, switches, batches, [[source] for source in switches.sources])

        def score(rounding: Sequence[RoundingSource]) -> float:
            if metric is None:
                return decibel(noise_of(model, switches, batches, [rounding])[0])
            switches.only(rounding)
            return float(metric(model))

        float_score, quantized_score = score(()), score(switches.sources)
        wanted = target if metric is None else float_score - target
        worst_first = [source for _, source in sorted(zip(noise, switches.sources, strict=True), key=lambda s: -s[0])]
        steps, chosen = _search(trials, worst_first, score, wanted, quantized_score, max_patterns)
    patterns = layer_patterns(model)
    steps = tuple(Step(tuple(patterns[id(layer)] for layer in added), count, value) for added, count, value in steps)
    texts = [patterns[id(layer)] for layer in chosen]
    exclude = tuple(texts) if leave == "float" else ()
    override = {} if leave == "float" else {text: dict(trials.options) for text in texts}
    reached = (steps[-1].score if steps else quantized_score) >= wanted
    return ExclusionSuggestion(exclude, override, reached, wanted, float_score, quantized_score, steps)


def _search(trials, worst_first, score, wanted, quantized_score, max_patterns):
    """Steps (layers added, layers in all, score) and all layers chosen."""
    chosen: list[Any] = []
    steps: list[tuple[list[Any], int, float]] = []
    reached = quantized_score >= wanted
    for source in tqdm(worst_first, desc="leaving out", unit="source", leave=False, delay=2):
        if reached:
            break
        if source not in trials.rounding(chosen, worst_first):
            continue
        added = trials.to_silence(source, chosen)
        if not added or (max_patterns is not None and len(chosen) + len(added) > max_patterns):
            continue
        chosen += added
        value = score(trials.rounding(chosen, worst_first))
        steps.append((added, len(chosen), value))
        reached = value >= wanted
    return steps, chosen
