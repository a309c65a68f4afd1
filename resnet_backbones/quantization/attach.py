"""Attaches quantizers to the layers of a model, where placement says."""

from __future__ import annotations

from resnet_backbones.quantization.bias_rounding import BiasRounding
from resnet_backbones.quantization.hooks import hook, hook_of
from resnet_backbones.quantization.placement.biases import BiasSite, average_sites, bias_sites
from resnet_backbones.quantization.placement.changes import changes_of_bits
from resnet_backbones.quantization.placement.joins import concatenates, is_taken_apart
from resnet_backbones.quantization.placement.sites import Placement
from resnet_backbones.quantization.replicas import scope_of
from resnet_backbones.quantization.schedule_state import add_schedule_state
from resnet_backbones.quantization.trace import Trace
from resnet_backbones.schemes import Scheme


def attach(trace: Trace, placement: Placement, scheme: Scheme) -> None:
    """Attaches quantizers where the placement says. A point that already has one keeps it, with its range."""
    calls = trace.points
    biases = biases_of(trace, placement, scheme)
    with scope_of(call.host for call in calls):  # ranges are variables of the model's tf.distribute strategy
        _attach(trace, placement, biases, scheme)


def biases_of(trace: Trace, placement: Placement, scheme: Scheme) -> list[BiasSite]:
    """Where biases are rounded."""
    return [] if scheme.target == "tensorrt" else bias_sites(trace, placement)  # TensorRT adds them in float


def _attach(trace: Trace, placement: Placement, biases: list[BiasSite], scheme: Scheme) -> None:
    calls, quantizers = trace.points, []
    for site in placement.sites:
        (owner, port), *readers = [(calls[order], port) for order, port in site.points]
        quantizer = hook(owner.layer, scheme, owner.host).own_quantizer(owner.index, port, site)
        quantizers.append(quantizer)
        for reader, reader_port in readers:
            follower, key = hook(reader.layer, scheme, reader.host), (reader.index, reader_port)
            follower.quantizers.setdefault(key, quantizer)
            if port == "output":
                follower.following.add(key)
    for order, bits in placement.kernels.items():
        hook(calls[order].layer, scheme, calls[order].host).quantize_kernels(bits)
    for order in placement.batch_norms:
        hook(calls[order].layer, scheme, calls[order].host).control_statistics()
    for order in placement.lone_batch_norms:
        hook(calls[order].layer, scheme, calls[order].host).stands_alone = True
    for bias in biases:
        call, weighted = calls[bias.order], hook(calls[bias.weighted].layer, scheme, calls[bias.weighted].host)
        rounding = BiasRounding(weighted.layer, weighted.kernels, quantizers[bias.site])
        hook(call.layer, scheme, call.host).biases[call.index] = rounding
        weighted.added[calls[bias.weighted].index] = rounding, call.layer
    for order, number, rounded in average_sites(trace, placement, of_readers=scheme.target != "tensorrt"):
        call = calls[order]
        hook(call.layer, scheme, call.host).averages[call.index] = quantizers[number], rounded
    for change in changes_of_bits(trace, placement):
        call = calls[change.order]
        hook(call.layer, scheme, call.host).changes[call.index, change.port] = quantizers[change.given]
    for call in calls:
        found = hook_of(call.layer)
        if found is not None:
            found.call_sites = max(found.call_sites, call.index + 1)
            found.taken_apart |= concatenates(call) and is_taken_apart(trace, call)
    add_schedule_state(next(call.host for call in calls if hook_of(call.layer) is not None))
