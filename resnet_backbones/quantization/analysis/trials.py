"""What would still round if some layers were left in float or had other bits: worked out, without quantizing anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from resnet_backbones.quantization.analysis.switches import RoundingSource
from resnet_backbones.quantization.model import quantization_of
from resnet_backbones.quantization.placement import place
from resnet_backbones.quantization.placement.selection import Bits, Selection
from resnet_backbones.quantization.placement.sites import Placement, placement_from_dict
from resnet_backbones.quantization.trace import LeafCall, Trace
from resnet_backbones.schemes import Scheme
from resnet_backbones.tasks import task_of

_ROUNDS = 50  # far more than layers can read one tensor in a chain
_FINE = {"activation_bits": 16, "kernel_bits": 8}


class Trials:
    """Places quantizers for one choice of layers after another.

    Args:
        model: a quantized model.
        leave: ``"float"`` or ``"int16"``: what becomes of the chosen layers.

    Attributes:
        options: bits of the chosen layers, with ``"int16"``.
    """

    def __init__(self, model: Any, leave: str) -> None:
        quantization = quantization_of(model) or {}
        self._float = leave == "float"
        scheme = Scheme(**quantization["scheme"])
        task = task_of(model)
        self._arguments = (model, scheme, quantization["exclude"], quantization["override"])
        self._keep_float = task.keep_float if task else ()
        self.options = {"activation_bits": 16, **({"kernel_bits": 8} if scheme.kernel_bits < 8 else {})}
        self._trace = Trace(model)
        self._calls = {(id(call.layer), call.index): call for call in self._trace.points}
        present = placement_from_dict(quantization)
        self._present_bits = self._bits_by_place(present)
        self._present_kernels = {id(self._trace.calls[o].layer): bits for o, bits in present.kernels.items()}

    def rounding(self, chosen: Sequence[Any], sources: Iterable[RoundingSource]) -> list[RoundingSource]:
        """Those of the sources that still round, as coarsely as now or more, when the chosen layers are treated."""
        placement = self._place(chosen)
        places = self._bits_by_place(placement)
        kernels = {id(self._trace.points[order].layer): bits for order, bits in placement.kernels.items()}
        return [source for source in sources if self._rounds(source, places, kernels)]

    def to_silence(self, source: RoundingSource, chosen: Sequence[Any]) -> list[Any]:
        """Layers to choose beside the chosen ones so that the source no longer rounds; none if there is no way.

        Left out by itself, a layer may hand its rounding on: to the readers of its result, which then round it
        themselves, or to the rest of a chain that fuses (convolution, batch norm, ReLU).
        """
        if source.port == "kernel" and not self._float and "kernel_bits" not in self.options:
            return []
        added = [] if source.layer in chosen else [source.layer]
        behind = self._calls.get((id(source.layer), source.call or 0))
        for _ in range(_ROUNDS):
            everything = [*chosen, *added]
            blockers = self._blockers(source, self._place(everything))
            new = [layer for layer in blockers if all(layer is not other for other in everything)]
            if not new and source not in self.rounding(everything, [source]):
                return added
            if not new:  # the head of the chain decides on the bits at its end
                behind = self._trace.producer(behind.inputs[0]) if behind is not None and behind.inputs else None
                if behind is None:
                    return []
                new = [behind.layer] if all(behind.layer is not other for other in everything) else []
            added += new
        return []

    # --- helpers -----------------------------------------------------------------------------------------------

    def _place(self, chosen: Sequence[Any]) -> Placement:
        return place(self._trace, _Choice(*self._arguments, self._keep_float, chosen, None if self._float else _FINE))

    def _blockers(self, source: RoundingSource, placement: Placement) -> list[Any]:
        """Layers that round the source's tensor, or one that has no range now, in a placement."""
        wanted = None if source.port == "kernel" else self._place_of(self._call(source).order, source.port)
        layers = []
        for site in placement.sites:
            for order, port in site.points:
                key = self._place_of(order, port)
                coarse = key == wanted and site.bits <= self._present_bits[key]
                if coarse or (self._float and key not in self._present_bits):
                    layers.append(self._trace.points[order].layer)
        return list({id(layer): layer for layer in layers}.values())

    def _rounds(self, source: RoundingSource, places: dict[Any, int], kernels: dict[int, int]) -> bool:
        if source.port == "kernel":
            key = id(source.layer)
            return key in kernels and kernels[key] <= self._present_kernels[key]
        place = self._place_of(self._call(source).order, source.port)
        return place in places and places[place] <= self._present_bits[place]

    def _call(self, source: RoundingSource) -> LeafCall:
        return self._calls[id(source.layer), source.call or 0]

    def _bits_by_place(self, placement: Placement) -> dict[Any, int]:
        """Where each range stands -> its bits; the fewest, where there are several."""
        found: dict[Any, int] = {}
        for site in placement.sites:
            for order, port in site.points:
                key = self._place_of(order, port)
                found[key] = min(site.bits, found.get(key, site.bits))
        return found

    def _place_of(self, order: int, port: str) -> Any:
        """The tensor at a point, looked up through operations that only move values; inside a layer, the point."""
        call = self._trace.points[order]
        if port == "output":
            tensor = call.outputs[0]
        elif port.startswith("input:"):
            tensor = call.inputs[int(port.removeprefix("input:"))]
        else:
            return order, port
        while (source := self._trace.moved_from(tensor)) is not None:
            tensor = source
        return id(tensor)


class _Choice(Selection):
    """A model's own selection, and beside it chosen layers that stay in float, or have other bits."""

    def __init__(self, model, scheme, exclude, override, keep_float, chosen, bits) -> None:
        super().__init__(model, scheme, (), override, (*exclude, *keep_float))
        self._chosen, self._other_bits = {id(layer) for layer in chosen}, bits

    def stays_float(self, layer: Any) -> bool:
        return (self._other_bits is None and id(layer) in self._chosen) or super().stays_float(layer)

    def bits(self, layer: Any) -> Bits:
        found = super().bits(layer)
        if self._other_bits is None or id(layer) not in self._chosen:
            return found
        return Bits(max(found.kernel, self._other_bits["kernel_bits"]), self._other_bits["activation_bits"])
