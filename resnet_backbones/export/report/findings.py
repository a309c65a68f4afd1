"""The failures of a report, and the remedy for each."""

from __future__ import annotations

import glob
import math
from collections import Counter
from typing import NamedTuple

from resnet_backbones.export.report.facts import ExportFacts
from resnet_backbones.export.report.parity import OutputParity
from resnet_backbones.export.request import QUANTIZED

#: Largest relative difference of a kernel's scale: a few roundings of float32, in which the converter folds batch norm.
SCALE_ERROR = 1e-5
_MOST_NAMED = 3  # layers in one step
#: What to do about a report that compared nothing.
COMPARE = (
    "Give images like those that the model will meet, parity_data=images, and install what runs the file: pip install "
    '"resnet-backbones[runtime]", or "resnet-backbones[onnx]" for ONNX files.'
)


class Failure(NamedTuple):
    """Something that does not pass, in words, and what to do next."""

    failure: str
    remedy: str


def findings(report: ExportFacts) -> list[Failure]:
    """List the failures of a report, each with its remedy; an empty list means that every measurement passes.

    Args:
        report: what was measured.
    """
    return [*_of_the_share(report), *_of_outputs(report), *_of_kernels(report)]


def failures(report: ExportFacts) -> list[str]:
    """What does not pass, in words."""
    return [found.failure for found in findings(report)]


def next_steps(report: ExportFacts) -> list[str]:
    """What to do about each failure, or to compare what was not."""
    steps = dict.fromkeys(found.remedy for found in findings(report))
    return [*steps] if report.parity else [*steps, COMPARE]


def passes(report: ExportFacts) -> bool:
    """Whether outputs were compared, and everything that was measured passes."""
    return bool(report.parity) and not findings(report)


def verdict(report: ExportFacts) -> str:
    """The pass or fail line."""
    failed = failures(report)
    if failed:
        return "FAILED: " + "; ".join(failed)
    if not report.parity:
        return "NOT COMPARED: the file's outputs were not measured against Keras; give images as parity_data"
    return "PASSED"


def _of_the_share(report: ExportFacts) -> list[Failure]:
    if report.precision not in QUANTIZED:
        return []
    found = []
    by_choice = report.chosen_float_mac_share
    if report.census.macs and report.int8_mac_share < report.int8_share_wanted * (1.0 - by_choice):
        failure = (
            f"{100 * report.int8_mac_share:.2f} % of the multiply-accumulates are in int8, "
            f"{100 * report.int8_share_wanted:.0f} % are wanted"
            + (f" of all but the {100 * by_choice:.2f} % left in float by choice" if by_choice else "")
        )
        found.append(Failure(failure, _put_in_integers(report)))
    if report.census.opaque:
        names = ", ".join(sorted({operator.kind for operator in report.census.opaque}))
        found.append(
            Failure(
                f"how much {names} compute, and in which type, is not known; it counts as float",
                f"Export a model without {names}: unroll=True makes plain operators of a recurrent layer's loop; "
                "else export the layers before it, and compute the rest where the file runs.",
            )
        )
    return found


def _put_in_integers(report: ExportFacts) -> str:
    """The remedy for layers that are in float without being excluded, largest number of MACs first."""
    macs: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for operator in report.census.not_int8():
        why = report.float_reasons.get(operator.output)
        if why is not None and why.layer and not why.chosen:
            macs[why.layer] += operator.macs
            reasons.setdefault(why.layer, why.text)
    named = [layer for layer, _ in macs.most_common(_MOST_NAMED)]
    if not named:
        return (
            "The column 'why' of the operators that are not int8 names the reason; put bare operations into layers, "
            "and see what is quantized with print(quantization.quantization_summary(model))."
        )
    listed = "; ".join(f"{place!r} ({reasons[place]})" for place in named)
    patterns = ", ".join(repr(glob.escape(place)) for place in named)
    return (
        f"Replace what has no integer form by what has one, most work first: {listed}. Or choose to leave it in float: "
        f"strip_quantization(model), then quantize with exclude=[{patterns}], which the report does not count."
    )


def _of_outputs(report: ExportFacts) -> list[Failure]:
    return [Failure(failure, _bring_together(report, one)) for one in report.parity for failure in one.failures]


def _bring_together(report: ExportFacts, entry: OutputParity) -> str:
    """The remedy for an output that differs from the Keras model's."""
    if not math.isfinite(entry.cosine):
        return (
            f"Output {entry.name!r} is not finite: look for NaN and infinity in the images, in the model's weights and "
            "in its own outputs, model(images)."
        )
    steps = []
    if report.compared_on == "random data":
        steps.append("Compare on images like those that the model will meet: parity_data=images.")
    if report.layers:
        worst = sorted(report.layers, key=lambda layer: layer.added)[:_MOST_NAMED]
        places = [layer.layer.split("#")[0] for layer in worst]
        steps.append("Error enters first at " + ", ".join(map(repr, dict.fromkeys(places))) + ".")
    else:
        steps.append("See where the error enters: export again with parity_data=images and layers=True.")
    if report.precision not in QUANTIZED:
        smaller = report.precision not in ("float32", "unchanged")
        steps.append(
            "Keep that part of the model out of the file"
            + (", or export with precision='float32', whose weights are not rounded." if smaller else ".")
        )
        return " ".join(steps)
    steps.append(
        "Where a layer stands out, leave it in float with exclude=, or give it 16 bits with override=. Where all do, "
        "the ranges are too wide or too narrow: calibrate on more images like those that the model will meet; see "
        "quantization.analyse(model, images) and quantization.suggest_exclusions(model, images, target=...); or train "
        "the model with its quantizers, quantize_aware(model) and fit."
    )
    return " ".join(steps)


def _of_kernels(report: ExportFacts) -> list[Failure]:
    kernels = report.kernels
    if kernels is None:
        return []
    found = []
    if kernels.different:
        failure = f"{len(kernels.different)} kernels are not those of Keras (first: {kernels.different[0]})"
        found.append(Failure(failure, _write_again(kernels.different)))
    if kernels.missing:
        failure = f"{len(kernels.missing)} kernels were not found in the file (first: {kernels.missing[0]})"
        owners = [name.rpartition(".")[0] for name in kernels.missing]
        found.append(Failure(failure, _write_again(owners)))
    if kernels.scale_error > SCALE_ERROR:
        failure = f"kernel scales differ by up to {kernels.scale_error:.2g}, {SCALE_ERROR:.0e} is allowed"
        found.append(Failure(failure, _write_again([])))
    return found


def _write_again(layers: list[str]) -> str:
    places = list(dict.fromkeys(layer.split("#")[0] for layer in layers))[:_MOST_NAMED]
    return (
        "Export again while nothing changes the model's weights. If that does not help, the file is wrong: "
        + (
            f"leave the layers in float, exclude=[{', '.join(repr(glob.escape(place)) for place in places)}], and "
            if places
            else "do not use it, and "
        )
        + "report it with the report's JSON."
    )
