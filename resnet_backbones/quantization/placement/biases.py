"""Which layers round to steps of what they read: those that average it, and those that add a bias in integers.

Integer kernels add the bias in their 32-bit accumulators, whose step is that of the input times that of the kernel. A
batch norm that folds into a kernel takes the bias over.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from resnet_backbones.quantization.composites import SEPARABLE
from resnet_backbones.quantization.placement.joins import joins_outputs
from resnet_backbones.quantization.placement.sites import Placement
from resnet_backbones.quantization.rules import role_of, rule_of
from resnet_backbones.quantization.trace import LeafCall, Trace


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


def average_sites(trace: Trace, placement: Placement, *, of_readers: bool) -> list[tuple[int, int, int]]:
    """Finds the ranges in whose steps averages are computed.

    Args:
        trace: the traced model.
        placement: what was placed.
        of_readers: whether a tensor has the range that one of its readers rounds it to, for all of them: for LiteRT.

    Returns:
        Order of each such call, the number of the range of what it reads, and how many of these calls a file for
        TensorRT rounds to that range one behind the other, this one too. 0: it does not round this one, since all that
        reads it rounds it to a range of its own, or the model only returns it.
    """
    finder, found = _Finder(trace, placement, of_readers=of_readers), []
    for order in placement.averages:
        number = finder.read(trace.calls[order])
        if number is not None:
            call = trace.calls[order]
            rounded = 0 if finder.only_rounded(call.outputs[0]) else finder.averages_until(call)
            found.append((order, number, rounded))
    return found


class _Finder:
    def __init__(self, trace: Trace, placement: Placement, *, of_readers: bool = True) -> None:
        self._trace, self._placement = trace, placement
        self._points: dict[tuple[int, str], int] = {}  # (order, port) -> number of the site
        self._of_tensor: dict[int, int] = {}  # id of a tensor -> number of the site that quantizes it
        for number, site in enumerate(placement.sites):
            for order, port in site.points:
                self._points[order, port] = number
                call = trace.points[order]
                if port == "output":
                    self._of_tensor.update((id(tensor), number) for tensor in call.outputs)
                elif port.startswith("input:") and of_readers:
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

    def only_rounded(self, tensor: tf.Tensor) -> bool:
        """Whether what reads a tensor, at once or moved or averaged, rounds it to a range. Outputs do not count."""
        for reader in self._trace.consumers(tensor):
            if isinstance(reader, LeafCall):
                read = [position for position, given in enumerate(reader.inputs) if given is tensor]
                if any((reader.order, f"input:{position}") in self._points for position in read):
                    continue
                if not joins_outputs(self._trace, reader) and role_of(reader.layer) != "same_range":
                    return False
                moved = reader.outputs
            else:
                moved = [self._trace.canonical(output) for output in reader.outputs]
                if any(self._trace.moved_from(one) is None for one in moved):
                    return False
            if not all(self.only_rounded(one) for one in moved if one is not tensor):
                return False
        return True

    def averages_until(self, call: LeafCall) -> int:
        """How many calls average the integers on the way from where they have their range: up to this one, and it."""
        if (call.order, "input:0") in self._points:
            return 1
        passed = sum(made_by.order in self._placement.averages for made_by in self._made_by(call.inputs[0])[1])
        return 1 + passed

    def read(self, call: LeafCall) -> int | None:
        """Number of the site whose integers a call reads."""
        own = self._points.get((call.order, "input:0"))
        return self._made_by(call.inputs[0])[0] if own is None else own

    def _made_by(self, tensor: tf.Tensor) -> tuple[int | None, list[LeafCall]]:
        """The same of a tensor: its own range, or that of what was moved to make it; and the calls that moved it."""
        calls: list[LeafCall] = []
        while id(tensor) not in self._of_tensor:
            made_by = self._trace.producer(tensor)
            if made_by is None:
                source = self._trace.moved_from(tensor)
            else:
                source = made_by.inputs[0] if made_by.inputs and role_of(made_by.layer) == "same_range" else None
                calls.append(made_by)
                if source is not None and (own := self._points.get((made_by.order, "input:0"))) is not None:
                    return own, calls
            if source is None:
                return None, calls
            tensor = source
        return self._of_tensor[id(tensor)], calls
