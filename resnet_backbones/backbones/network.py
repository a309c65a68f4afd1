"""One network a family: ``(net, x) -> (levels, x)``, from an image to the last feature map. Knows no Keras."""

from __future__ import annotations

import importlib
from typing import Any

from resnet_backbones.backbones.builder import Parts


def build(net: Parts, image: Any) -> tuple[dict[str, str], Any]:
    """The network of ``net.spec`` on an image, its preprocessing first.

    Args:
        net: what adds the layers.
        image: (batch, height, width, channels).

    Returns:
        Level -> name of the layer it ends in, and the last feature map.
    """
    spec = net.spec
    x = image
    if spec.preprocessing is not None:
        x = net.rescale(x, "preprocessing", **spec.preprocessing.to_dict())
    network = spec.network
    if isinstance(network, str):
        module, _, function = network.partition(":")
        network = getattr(importlib.import_module(module), function)
    return network(net, x)
