"""What the placement rules decided, as data: which ranges there are, and at which points. Saved models carry it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class QuantizerSite:
    """One range, and every point it is applied at: (order of the leaf call, port).

    Ports: ``"output"``, ``"preactivation"`` (inside a layer, before its own activation), ``"input:0"``..., and
    ``"between:0"``... for tensors inside a layer that runs as several operators.

    Attributes:
        points: where it is applied; its variables live in the layer of the first. If that is an output, it is observed
            there alone.
        fixed_range: a range that is not observed.
        bits, symmetric: of the quantized values.
        litert_only: a range of the scheme ``portable_int8`` that a TensorRT file does without.
    """

    points: list[tuple[int, str]]
    fixed_range: tuple[float, float] | None = None
    bits: int = 8
    symmetric: bool = False
    litert_only: bool = False


@dataclass
class Placement:
    """What to quantize.

    Attributes:
        sites: ranges of activations.
        kernels: order of a leaf call -> bits of its layer's kernels.
        batch_norms: orders of leaf calls; ``lone_batch_norms`` are those of them that fold into nothing.
        unsupported: path of a layer below the model, ``"inner/elu"`` -> why it stays in float unasked.
        averages: orders of leaf calls that average in the steps of what they read, such as poolings.
    """

    sites: list[QuantizerSite] = field(default_factory=list)
    kernels: dict[int, int] = field(default_factory=dict)
    batch_norms: list[int] = field(default_factory=list)
    unsupported: dict[str, str] = field(default_factory=dict)
    lone_batch_norms: list[int] = field(default_factory=list)
    averages: list[int] = field(default_factory=list)


def placement_to_dict(placement: Placement) -> dict[str, Any]:
    """The placement as plain values, as saved models carry it."""
    return {
        "sites": [{**vars(site), "points": [list(point) for point in site.points]} for site in placement.sites],
        "kernels": [list(entry) for entry in placement.kernels.items()],
        "batch_norms": placement.batch_norms,
        "lone_batch_norms": placement.lone_batch_norms,
        "averages": placement.averages,
    }


def placement_from_dict(data: dict[str, Any]) -> Placement:
    """The placement that :func:`placement_to_dict` wrote."""
    sites = []
    for entry in data["sites"]:
        fixed = entry["fixed_range"]
        points = [(int(order), port) for order, port in entry["points"]]
        sites.append(QuantizerSite(**{**entry, "points": points, "fixed_range": tuple(fixed) if fixed else None}))
    kernels = {int(order): int(bits) for order, bits in data["kernels"]}
    batch_norms, lone = (list(data[name]) for name in ("batch_norms", "lone_batch_norms"))
    averages = list(data.get("averages", []))  # a model saved by 0.1.0 computes as it did
    return Placement(sites, kernels, batch_norms, lone_batch_norms=lone, averages=averages)
