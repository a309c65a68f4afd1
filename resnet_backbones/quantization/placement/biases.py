"""Which layers round to steps of what they read: those that average it, and those that add a bias in integers.

Integer kernels add the bias in their 32-bit accumulators, whose step is that of the input times that of the kernel. A
batch norm that folds into a kernel takes the bias over.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from resnet_backbones.quantization.composites import SEPARABLE
from resnet_backbones.quantization.placement.sites import Placement
from resnet_backbones.quantization.placement.trace import LeafCall, Trace
from resnet_backbones.quantization.rules import role_of, rule_of


@dataclass(frozen=True)
class BiasSite:
    """A bias that integer kernels hold rounded; all by orders of leaf calls.

    Attributes:
        order: the call that adds it: of a weighted layer, or of a batch norm.
        weighted: the call whose kernels the accumulators sum up; of a batch norm that stands alone, itself.
        site: number of the range of what that reads.
    """

    order: int
    weighted: int
    site: int


def bias_sites(trace: Trace, placement: Placement) -> list[BiasSite]:
    """Finds the biases that a placement by LiteRT's rules rounds.

    Args:
        trace: the traced model.
        placement: the ranges and kernels that were placed.
    """
    finder = _Finder(trace, placement)
    found = [finder.weighted(trace.calls[order]) for order in placement.kernels]
    found += [finder.lone(trace.calls[order]) for order in placement.lone_batch_norms]
    return [site for site in found if site is not None]


def average_sites(trace: Trace, placement: Placement) -> list[tuple[int, int]]:
    """Finds the ranges in whose steps averages are computed.

    Args:
        trace: the traced model.
        placement: what was placed.

    Returns:
        Order of each such call, and the number of the range of what it reads.
    """
    finder = _Finder(trace, placement)
    found = [(order, finder.read(trace.calls[order])) for order in placement.averages]
    return [(order, number) for order, number in found if number is not None]


class _Finder:
    def __init__(self, trace: Trace, placement: Placement) -> None:
        self._trace, self._placement = trace, placement
        self._points: dict[tuple[int, str], int] = {}  # (order, port) -> number of the site
        self._of_tensor: dict[int, int] = {}  # id of a tensor -> number of the site that quantizes it
        for number, site in enumerate(placement.sites):
            for order, port in site.points:
                self._points[order, port] = number
                call = trace.points[order]
                if port == "output":
                    self._of_tensor.update((id(tensor), number) for tensor in call.outputs)
                elif port.startswith("input:"):
                    self._of_tensor.setdefault(id(call.inputs[int(port.split(":")[1])]), number)

    def weighted(self, call: LeafCall) -> BiasSite | None:
        """The bias of a layer with kernels, at the batch norm that folds into it or else at the layer itself."""
        rule = rule_of(call.layer)
        separable = rule is not None and rule.composite is SEPARABLE
        number = self._points.get((call.order, "between:0")) if separable else self.read(call)
        if number is None:
            return None
        norm = self._folded(call)
        return BiasSite((norm or call).order, call.order, number)

    def lone(self, call: LeafCall) -> BiasSite | None:
        """The offset of a batch norm that multiplies by itself."""
        number = self.read(call)
        return None if number is None else BiasSite(call.order, call.order, number)

    def _folded(self, call: LeafCall) -> LeafCall | None:
        if (call.order, "output") in self._points or (call.order, "preactivation") in self._points:
            return None
        after = self._trace.only_consumer(call.outputs[0])
        norms = set(self._placement.batch_norms) - set(self._placement.lone_batch_norms)
        return after if after is not None and after.order in norms else None

    def read(self, call: LeafCall) -> int | None:
        """Number of the site whose integers a call reads."""
        own = self._points.get((call.order, "input:0"))
        return self._carried(call.inputs[0]) if own is None else own

    def _carried(self, tensor: tf.Tensor) -> int | None:
        """The same of a tensor: its own range, or that of what was moved to make it."""
        while id(tensor) not in self._of_tensor:
            made_by = self._trace.producer(tensor)
            if made_by is None:
                source = self._trace.moved_from(tensor)
            else:
                source = made_by.inputs[0] if made_by.inputs and role_of(made_by.layer) == "same_range" else None
            if source is None:
                return None
            tensor = source
        return self._of_tensor[id(tensor)]
