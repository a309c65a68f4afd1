"""Where layers of other bits read a tensor that is rounded already: LiteRT converts its integers there."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from resnet_backbones.quantization.placement.sites import Placement
from resnet_backbones.quantization.rules import averages, role_of
from resnet_backbones.quantization.trace import LeafCall, Trace


@dataclass
class Change:
    """A range of other bits than what it is given has.

    Attributes:
        order, port: where it is.
        given: number of the range that what it is given has.
        way: the calls that made what it is given, last first: those that moved it, and that which has the range.
    """

    order: int
    port: str
    given: int
    way: list[LeafCall]


def changes_of_bits(trace: Trace, placement: Placement) -> list[Change]:
    """Finds where bits change.

    Args:
        trace: the traced model.
        placement: the ranges that were placed.
    """
    found, points = [], _numbers(placement)
    for site in placement.sites:
        for order, port in site.points:
            if port.startswith("input:"):
                given, way = _followed(trace, placement, points, trace.points[order].inputs[int(port.split(":")[1])])
                if given is not None and placement.sites[given].bits != site.bits:
                    found.append(Change(order, port, given, way))
    return found


def range_of(trace: Trace, placement: Placement, tensor: tf.Tensor) -> int | None:
    """Number of the range that a tensor was rounded to, itself or before it was moved; ``None``: to none."""
    return _followed(trace, placement, _numbers(placement), tensor)[0]


def _numbers(placement: Placement) -> dict[tuple[int, str], int]:
    """Point -> number of the range there."""
    return {point: number for number, site in enumerate(placement.sites) for point in site.points}


def _followed(
    trace: Trace, placement: Placement, points: dict[tuple[int, str], int], tensor: tf.Tensor | None
) -> tuple[int | None, list[LeafCall]]:
    way: list[LeafCall] = []
    while tensor is not None:
        made_by = trace.producer(tensor)
        if made_by is None:
            tensor = trace.moved_from(tensor)
            continue
        way.append(made_by)
        if (own := points.get((made_by.order, "output"))) is not None:
            return own, way
        in_float = averages(made_by.layer) and made_by.order not in placement.averages
        if role_of(made_by.layer) != "same_range" or not made_by.inputs or in_float:
            break
        if (own := points.get((made_by.order, "input:0"))) is not None:
            return own, way
        tensor = made_by.inputs[0]
    return None, way
