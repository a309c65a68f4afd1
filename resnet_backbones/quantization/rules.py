"""What each kind of layer does to a quantized tensor: the table placement reads.

A layer class without a rule is left in float and named in a warning; ``register_quantization_rule`` adds one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from resnet_backbones.backbones.plugins import note_table
from resnet_backbones.backbones.spec import INT8_ACTIVATIONS
from resnet_backbones.keras_compat import DEPTHWISE_KERNEL, keras
from resnet_backbones.keras_compat.operations import operation_activation, operation_name
from resnet_backbones.layers.feature_maps import BlurPool2D, ChannelMax, ChannelMean, ChannelPad, ChannelSlice
from resnet_backbones.quantization.composites import AVERAGE, IN_PAIRS, SEPARABLE, SIGMOID_RANGE, Composite

# LiteRT fixes the output of these: in int8 to scale 1/256, zero point -128 (tanh 1/128, 0); in int16 to 1/32768, 0.
_FIXED_RANGES = {"sigmoid": SIGMOID_RANGE, "softmax": SIGMOID_RANGE, "tanh": (-1.0, 127.0 / 128.0)}
_FIXED_RANGE_16 = (-32767.0 / 32768.0, 32767.0 / 32768.0)
# Activations LiteRT computes in integers, those of specs and one that has no name there.
INT8 = INT8_ACTIVATIONS | {"clipped_relu"}
# LiteRT computes these inside the operator before them; a clipped ReLU is one whose range ends where it clips.
FUSED = frozenset({"relu", "relu6", "clipped_relu"})


def fixed_range(layer: Any, activation: str | None, bits: int, symmetric: bool = False) -> tuple[float, float] | None:
    """The range of an activation's output that is known beforehand, at 8 or 16 bits; ``None`` when it is observed.

    ``symmetric`` says that ranges which the target does not fix are so.

    LiteRT fixes the results of some. A hard sigmoid's and a clipped ReLU's bounds are its range's: the integers cannot
    leave it, so that LiteRT needs no operator for the clipping.
    """
    if activation == "clipped_relu":
        limit = float(layer.max_value)
        return -limit if symmetric or bits > 8 else 0.0, limit
    if activation == "hard_sigmoid":
        return 0.0 if bits <= 8 else -1.0, 1.0
    if activation not in _FIXED_RANGES:
        return None
    return _FIXED_RANGES[activation] if bits <= 8 else _FIXED_RANGE_16


@dataclass(frozen=True)
class Rule:
    """How a layer is quantized.

    Args:
        role: ``"weighted"`` (multiplies by kernels), ``"batch_norm"`` (folds into a weighted layer before it, else
            stands alone), ``"activation"``, ``"add"`` (fuses an activation behind it), ``"compute"`` (any other
            operator with an output range of its own), ``"same_range"`` (moves values without changing them: no range).
        kernels: for weighted layers, attribute -> axes reduced to find its ranges (``None``: one range).
        composite: for layers that LiteRT runs as several operators, how they are computed with ranges in between.
        unless: function of the layer that says why the rule does not hold for its arguments; ``None`` where it does.
    """

    role: str
    kernels: tuple[tuple[str, tuple[int, ...] | None], ...] = ()
    composite: Composite | None = None
    unless: Callable[[Any], str | None] | None = None


_RULES: dict[type, Rule] = {}
note_table(_RULES)


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
    """The rule of the layer's class or its nearest base class; ``None`` where there is none for its arguments."""
    rule = _rule_of_class(layer)
    return None if rule is None or (rule.unless is not None and rule.unless(layer)) else rule


def why_without_rule(layer: Any) -> str:
    """Why :func:`rule_of` finds nothing for a layer."""
    rule = _rule_of_class(layer)
    reason = None if rule is None or rule.unless is None else rule.unless(layer)
    return reason or f"no quantization rule for {type(layer).__name__}"


def has_rule(layer: Any) -> bool:
    """Whether there is a rule for the layer's class, be it that it does not hold for its arguments."""
    return _rule_of_class(layer) is not None


def _rule_of_class(layer: Any) -> Rule | None:
    for cls in type(layer).__mro__:
        if cls in _RULES:
            return _RULES[cls]
        known = _RULES_OF_OTHERS.get((cls.__module__.split(".")[0], cls.__name__))
        if known is not None:
            return known
    operation = operation_name(layer)
    return _OPERATIONS.get(operation, _ACTIVATION) if operation else None


def role_of(layer: Any) -> str | None:
    """The role of the layer's rule; ``None`` when there is none."""
    rule = rule_of(layer)
    return rule.role if rule else None


def activation_name(layer: Any) -> str | None:
    """The name of the activation a layer applies, ``None`` for none or for linear; ``"?"`` if it has no name."""
    if isinstance(layer, keras.layers.ReLU):
        return _name_of_relu(float(layer.negative_slope or 0.0), layer.max_value, float(layer.threshold or 0.0))
    for cls, known in _ACTIVATION_LAYERS.items():
        if isinstance(layer, cls):
            return known
    if type(layer).__name__ in _ACTIVATIONS_OF_OTHERS:
        return _ACTIVATIONS_OF_OTHERS[type(layer).__name__]
    if operation_name(layer):
        return operation_activation(layer)
    function = getattr(layer, "activation", None)
    if isinstance(function, keras.layers.Layer):
        return activation_name(function) or _name_of_unknown(function)
    name = "linear" if function is None else getattr(function, "__name__", "?")
    return _SAME.get(name, name)


def _name_of_unknown(layer: Any) -> str | None:
    """What a layer that is given as an activation is called if it is none by its class; ``None`` if it does nothing."""
    idle = role_of(layer) == "activation" or isinstance(layer, _IDLE)
    return None if idle else type(layer).__name__


def _name_of_relu(slope: float, limit: float | None, threshold: float) -> str:
    if threshold == 0.0 and slope == 0.0 and (limit is None or float(limit) > 0.0):
        return "relu" if limit is None else "relu6" if float(limit) == 6.0 else "clipped_relu"
    if threshold == 0.0 and limit is None:
        return "leaky_relu"
    return f"relu(negative_slope={slope}, max_value={limit}, threshold={threshold})"


def _channels_first(layer: Any) -> str | None:
    if getattr(layer, "data_format", None) != "channels_first":
        return None
    return "data_format='channels_first' has no form in integers; build the model with channels last"


def _off_channels(layer: Any) -> str | None:
    """Why a normalization has no scale and offset for each channel."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis or ())
    rank = getattr(getattr(layer, "input_spec", None), "ndim", None) or 4
    if not axes or (len(axes) == 1 and axes[0] in (-1, rank - 1)):
        return None
    shown = axes[0] if len(axes) == 1 else tuple(axes)
    return f"axis={shown} has no form in integers; only the last axis, the channels, has"


def _softmax_off_channels(layer: Any) -> str | None:
    axis = getattr(layer, "axis", -1)
    if activation_name(layer) != "softmax" or axis in (-1, 3, None):
        return None
    return f"softmax over axis={axis} has no form in integers; only over the last axis has it"


def resized_in_float(layer: Any) -> str | None:
    """Why resizing has no integer operator: it weighs more pixels than the four around a point, or pads with others."""
    if not isinstance(layer, (_layers.UpSampling2D, _layers.Resizing)):
        return None
    if layer.interpolation not in ("nearest", "bilinear"):
        return f"interpolation={layer.interpolation!r} has no form in integers; only 'nearest' and 'bilinear' have"
    if getattr(layer, "antialias", False):
        return "antialias=True has no form in integers"
    fill = getattr(layer, "fill_value", 0.0) if getattr(layer, "pad_to_aspect_ratio", False) else 0.0
    return f"fill_value={fill} of what is padded has no form in integers; only zero has" if fill else None


_layers = keras.layers
_SAME = {"linear": None, "swish": "silu"}  # the latter is tf_keras' name
_ACTIVATION = Rule("activation", unless=_softmax_off_channels)
# Layers of libraries that need not be installed: package and class name.
_ACTIVATIONS_OF_OTHERS = {"HardSigmoidActivation": "hard_sigmoid"}
_RULES_OF_OTHERS = {("keras_cv", name): _ACTIVATION for name in _ACTIVATIONS_OF_OTHERS}
# Layers that change nothing in inference.
_IDLE = (
    _layers.Dropout,
    _layers.SpatialDropout1D,
    _layers.SpatialDropout2D,
    _layers.SpatialDropout3D,
    _layers.AlphaDropout,
    _layers.GaussianDropout,
    _layers.GaussianNoise,
    _layers.ActivityRegularization,
)
_ACTIVATION_LAYERS = {_layers.Softmax: "softmax", _layers.LeakyReLU: "leaky_relu", _layers.ELU: "elu"}

CONVOLUTION = Rule("weighted", kernels=(("kernel", (0, 1, 2)),), unless=_channels_first)
_RULES.update(
    {
        _layers.Conv2D: CONVOLUTION,
        _layers.DepthwiseConv2D: replace(CONVOLUTION, kernels=((DEPTHWISE_KERNEL, (0, 1)),)),
        BlurPool2D: Rule("weighted", kernels=(("kernel", (0, 1)),)),  # its kernel is a constant
        _layers.SeparableConv2D: replace(
            CONVOLUTION,
            kernels=(("depthwise_kernel", (0, 1)), ("pointwise_kernel", (0, 1, 2))),
            composite=SEPARABLE,
        ),
        _layers.Conv2DTranspose: replace(CONVOLUTION, kernels=(("kernel", (0, 1, 3)),)),  # (height, width, out, in)
        _layers.Dense: Rule("weighted", kernels=(("kernel", (0,)),)),
        _layers.BatchNormalization: Rule("batch_norm", unless=_off_channels),
        _layers.Add: Rule("add", composite=IN_PAIRS),
        _layers.Multiply: Rule("compute", composite=IN_PAIRS),
        _layers.Maximum: Rule("compute", composite=IN_PAIRS),
        _layers.Minimum: Rule("compute", composite=IN_PAIRS),
        _layers.Average: Rule("compute", composite=AVERAGE),
    }
)
_RULES.update(
    dict.fromkeys(
        (_layers.Activation, _layers.ReLU, _layers.LeakyReLU, _layers.ELU, _layers.Softmax),
        _ACTIVATION,
    )
)
_RULES.update(
    dict.fromkeys(
        (
            _layers.GlobalAveragePooling2D,
            _layers.Concatenate,
            _layers.Subtract,
            _layers.PReLU,
            _layers.Rescaling,
            ChannelMean,
        ),
        Rule("compute"),
    )
)
_RULES[_layers.Normalization] = Rule("compute", unless=_off_channels)
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
            *_IDLE,
            ChannelMax,
            ChannelSlice,
        ),
        Rule("same_range"),
    )
)
_RULES.update(dict.fromkeys((_layers.UpSampling2D, _layers.Resizing), Rule("same_range", unless=resized_in_float)))
# Bare operations, by what they do; those that are no merge are activations.
_OPERATIONS = {
    "add": Rule("add"),
    **dict.fromkeys(("subtract", "multiply", "maximum", "minimum", "concatenate"), Rule("compute")),
}


def concatenates(layer: Any) -> bool:
    """Whether it is a concatenation: a layer, or a bare operation of a functional model."""
    return isinstance(layer, _layers.Concatenate) or operation_name(layer) == "concatenate"


def has_one_scale(layer: Any) -> bool:
    """Whether integer operators have the same scale for all that the layer reads and gives."""
    kinds = (_layers.Concatenate, _layers.Maximum, _layers.Minimum)
    return isinstance(layer, kinds) or operation_name(layer) in ("concatenate", "maximum", "minimum")


def averages(layer: Any) -> bool:
    """Whether a layer's integer operator averages in the steps of what it reads, and so rounds to them."""
    if isinstance(layer, _layers.AveragePooling2D):
        return True
    return isinstance(layer, (_layers.UpSampling2D, _layers.Resizing)) and layer.interpolation != "nearest"
