"""What each kind of layer does to a quantized tensor: the table placement reads.

A layer class without a rule is left in float and named in a warning; ``register_quantization_rule`` adds one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resnet_backbones.keras_api import DEPTHWISE_KERNEL, keras
from resnet_backbones.layers.blur_pool import BlurPool2D
from resnet_backbones.layers.channels import ChannelMax, ChannelMean, ChannelPad, ChannelSlice

SIGMOID_RANGE = (0.0, 255.0 / 256.0)  # LiteRT fixes the output of sigmoid and softmax to scale 1/256, zero point -128
TANH_RANGE = (-1.0, 127.0 / 128.0)
FIXED_RANGES = {"sigmoid": SIGMOID_RANGE, "softmax": SIGMOID_RANGE, "tanh": TANH_RANGE}
FUSED = frozenset({"relu", "relu6"})  # LiteRT computes these inside the operator before them


@dataclass(frozen=True)
class Rule:
    """How a layer is quantized.

    Args:
        role: ``"weighted"`` (multiplies by kernels), ``"batch_norm"`` (folds into a weighted layer before it, else
            stands alone), ``"activation"``, ``"add"`` (fuses an activation behind it), ``"compute"`` (any other
            operator with an output range of its own), ``"same_range"`` (moves values without changing them: no range).
        kernels: for weighted layers, attribute -> axes reduced to find its ranges (``None``: one range).
    """

    role: str
    kernels: tuple[tuple[str, tuple[int, ...] | None], ...] = ()


CONVOLUTION = Rule("weighted", kernels=(("kernel", (0, 1, 2)),))
_RULES: dict[type, Rule] = {}


def register_quantization_rule(layer_class: type, rule: Rule) -> None:
    """Says how a layer class (and its subclasses without a rule of their own) is quantized.

    Args:
        layer_class: a Keras layer class.
        rule: what it does; a second registration replaces the first.

    Example:
        >>> register_quantization_rule(MyPatchMerge, Rule("same_range"))
    """
    if rule.role not in ROLES:
        raise ValueError(f"Unknown role {rule.role!r}; a rule's role is one of {', '.join(sorted(ROLES))}.")
    _RULES[layer_class] = rule


ROLES = frozenset({"weighted", "batch_norm", "activation", "add", "compute", "same_range"})


def rule_of(layer: Any) -> Rule | None:
    """The rule of the layer's class or its nearest base class; ``None`` when there is none."""
    for cls in type(layer).__mro__:
        if cls in _RULES:
            return _RULES[cls]
    return None


def activation_name(layer: Any) -> str | None:
    """The name of the activation a layer applies, ``None`` for none or for linear; ``"?"`` if it has no name."""
    if isinstance(layer, keras.layers.ReLU):
        slope, limit = float(layer.negative_slope or 0.0), layer.max_value
        if slope == 0.0 and (limit is None or float(limit) == 6.0):
            return "relu" if limit is None else "relu6"
        return "leaky_relu" if limit is None else "?"
    for cls, known in _ACTIVATION_LAYERS.items():
        if isinstance(layer, cls):
            return known
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", "?") if function is not None else None
    return None if name == "linear" else name


_layers = keras.layers
_ACTIVATION_LAYERS = {_layers.Softmax: "softmax", _layers.LeakyReLU: "leaky_relu", _layers.ELU: "elu"}

_RULES.update(
    {
        _layers.Conv2D: CONVOLUTION,
        _layers.DepthwiseConv2D: Rule("weighted", kernels=((DEPTHWISE_KERNEL, (0, 1)),)),
        BlurPool2D: Rule("weighted", kernels=(("kernel", (0, 1)),)),  # its kernel is a constant
        _layers.Conv2DTranspose: Rule("weighted", kernels=(("kernel", None),)),
        # Per-channel fake quantization of a matrix multiplication's kernel does not convert.
        _layers.Dense: Rule("weighted", kernels=(("kernel", None),)),
        _layers.BatchNormalization: Rule("batch_norm"),
        _layers.Add: Rule("add"),
        _layers.Activation: Rule("activation"),
        _layers.ReLU: Rule("activation"),
        _layers.LeakyReLU: Rule("activation"),
        _layers.ELU: Rule("activation"),
        _layers.Softmax: Rule("activation"),
    }
)
_RULES.update(
    dict.fromkeys(
        (
            _layers.GlobalAveragePooling2D,
            _layers.Concatenate,
            _layers.Multiply,
            _layers.Subtract,
            _layers.Rescaling,
            _layers.Normalization,
            ChannelMean,
        ),
        Rule("compute"),
    )
)
_RULES.update(
    dict.fromkeys(
        (
            _layers.MaxPooling2D,
            _layers.AveragePooling2D,  # LiteRT's has one scale for input and output; the global one (a mean) has two
            _layers.GlobalMaxPooling2D,
            _layers.ZeroPadding2D,
            ChannelPad,
            _layers.Cropping2D,
            _layers.Reshape,
            _layers.Flatten,
            _layers.Permute,
            _layers.UpSampling2D,
            _layers.Resizing,
            _layers.Dropout,
            _layers.SpatialDropout2D,
            ChannelMax,
            ChannelSlice,
        ),
        Rule("same_range"),
    )
)
