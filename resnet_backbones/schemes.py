"""Quantization schemes: what is quantized, and how. Data only, without Keras; placement and export read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from resnet_backbones.backbones.plugins import note_table
from resnet_backbones.errors import did_you_mean

TARGETS = ("litert", "tensorrt", "portable")


@dataclass(frozen=True)
class Scheme:
    """How a model is quantized.

    Args:
        name: the name users type, e.g. ``"edge_int8"``.
        kernel_bits: bits of convolution and dense kernels; always symmetric with a narrow range
            ([-127, 127] for 8 bits), so that zero is exact and folding batch norm only rescales.
        activation_bits: bits of activations, one range a tensor.
        symmetric_activations: whether activation ranges are symmetric about zero (zero point 0).
        ema_decay: decay of the moving average of activation ranges while training observes them.
        target: whose rules say where ranges stand: ``"litert"`` where LiteRT's int8 kernels need them, ``"tensorrt"``
            on the inputs of weighted layers only, ``"portable"`` LiteRT's places with those marked that TensorRT
            does without. The last two are symmetric always.
        float_outputs: leave the last weighted layers, those whose results the model returns, in float.

    Raises:
        ValueError: a field is out of its bounds, or a symmetric target has asymmetric activations.

    Example:
        >>> Scheme("gpu_int8_heads", symmetric_activations=True, target="tensorrt")

    Source: the int8 specification of LiteRT, https://ai.google.dev/edge/litert/models/quantization_spec; NVIDIA,
    "Working with Quantized Types", https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
    """

    name: str
    kernel_bits: int = 8
    activation_bits: int = 8
    symmetric_activations: bool = False
    ema_decay: float = 0.999
    target: str = "litert"
    float_outputs: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.kernel_bits <= 8:
            raise ValueError(f"Scheme {self.name!r}: kernel_bits must be 2 to 8, got {self.kernel_bits}.")
        if not 2 <= self.activation_bits <= 16:
            raise ValueError(f"Scheme {self.name!r}: activation_bits must be 2 to 16, got {self.activation_bits}.")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"Scheme {self.name!r}: ema_decay must be in [0, 1), got {self.ema_decay}.")
        if self.target not in TARGETS:
            raise ValueError(f"Scheme {self.name!r}: target must be one of {', '.join(TARGETS)}, got {self.target!r}.")
        if self.target != "litert" and not self.symmetric_activations:
            raise ValueError(
                f"Scheme {self.name!r}: TensorRT knows no zero points, so target {self.target!r} needs "
                "symmetric_activations=True."
            )

    def replace(self, **changes: Any) -> Scheme:
        """The scheme with some fields changed, e.g. ``get_scheme("gpu_int8").replace(float_outputs=False)``."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The scheme as plain values, as saved models carry it."""
        return asdict(self)


def precision_of(activation_bits: int) -> str:
    """What files of a scheme hold: ``"int16x8"`` for activations of 16 bits, else ``"int8"``."""
    return "int16x8" if activation_bits == 16 else "int8"


_SCHEMES: dict[str, Scheme] = {}
note_table(_SCHEMES)


def register_scheme(scheme: Scheme, *, overwrite: bool = False) -> Scheme:
    """Makes a scheme known by its name.

    Args:
        scheme: the scheme.
        overwrite: replace a scheme of the same name.

    Returns:
        The scheme.

    Raises:
        ValueError: the name is taken and ``overwrite`` is false.

    Example:
        >>> register_scheme(Scheme("edge_int8_w4", kernel_bits=4))
    """
    if scheme.name in _SCHEMES and not overwrite:
        raise ValueError(f"A scheme called {scheme.name!r} is already registered; pass overwrite=True to replace it.")
    _SCHEMES[scheme.name] = scheme
    return scheme


def get_scheme(scheme: str | Scheme) -> Scheme:
    """The scheme of that name (a Scheme is returned as it is).

    Raises:
        KeyError: no scheme has that name; the message lists the nearest and all of them.
    """
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in _SCHEMES:
        raise KeyError(
            f"No quantization scheme is called {scheme!r}.{did_you_mean(str(scheme), _SCHEMES)} Known: "
            f"{', '.join(sorted(_SCHEMES))}. Add your own with register_scheme(Scheme(...))."
        )
    return _SCHEMES[scheme]


register_scheme(Scheme("edge_int8"))
# LiteRT's int16 activations have no zero point.
register_scheme(Scheme("edge_int16x8", activation_bits=16, symmetric_activations=True))
register_scheme(Scheme("gpu_int8", symmetric_activations=True, target="tensorrt", float_outputs=True))
register_scheme(Scheme("portable_int8", symmetric_activations=True, target="portable"))
