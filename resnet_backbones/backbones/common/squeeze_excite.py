"""Squeeze and excitation in the middle of a block, with squeezed channels and activation as the block has them."""

from __future__ import annotations

from typing import Any

from resnet_backbones.backbones.builder import Parts


def squeeze_excite(
    net: Parts, x: Any, name: str, squeezed: int, *, activation: str | None = None, gate: str = "sigmoid"
) -> Any:
    """Each channel of ``x`` times a number between 0 and 1, told from the means of all.

    Args:
        net: what adds the layers.
        x: (batch, height, width, channels).
        name: of the block; the layers are called ``{name}_se_reduce``, ``{name}_se_expand`` ...
        squeezed: channels between the two 1x1 convolutions.
        activation: what follows the first of them, by default the spec's.
        gate: what follows the second.

    Returns:
        The same shape as ``x``.

    Source: Hu et al. 2017, https://arxiv.org/abs/1709.01507
    """
    place = f"{name}_se"
    y = net.global_pool(x, f"{place}_pool")
    y = net.conv2d(y, f"{place}_reduce", squeezed, 1, bias=True)
    y = net.activation(y, f"{place}_act", activation or net.spec.activation)
    y = net.conv2d(y, f"{place}_expand", x.shape[-1], 1, bias=True)
    return net.multiply(x, net.gate(y, f"{place}_gate", gate), f"{place}_out")
