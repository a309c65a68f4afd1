"""Small networks of one layer between two neighbours: what the sweep of the quantization rules combines.

A case says which layer, its own activation, which of its arguments is not at its default, what stands before and after
it, and by which scheme and for which target it is quantized.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import IS_KERAS_3, activation_function, keras
from resnet_backbones.layers.feature_maps import BlurPool2D, ChannelMax, ChannelMean, ChannelPad, ChannelSlice

from .covering import Case, covering_array

layers = keras.layers
Build = Callable[[Any, Any], Any]  # (tensor, activation) -> tensor
IMAGE = (9, 8, 4)
FLOAT_ACTIVATIONS = ("elu", "softplus")  # LiteRT has no integers for them: they stay in float, with a warning
ACTIVATIONS = (
    *("linear", "relu", "relu6", "leaky_relu", "silu", "gelu", "hard_swish", "sigmoid", "hard_sigmoid", "tanh"),
    *("softmax", "relu to 3", "leaky layer", *FLOAT_ACTIVATIONS),
)


def activation_of(name: str) -> Any:
    """What a layer takes as its activation."""
    own = {"relu to 3": lambda: layers.ReLU(3.0), "leaky layer": lambda: layers.LeakyReLU(), "linear": lambda: None}
    return own[name]() if name in own else activation_function(name)


# --- layers and their arguments ------------------------------------------------------------------------------------


def _weighted(kind: Any, *fixed: Any, **arguments: dict[str, Any]) -> dict[str, Build]:
    def build(given):
        positional = given.get("positional", fixed)
        rest = {name: value for name, value in given.items() if name != "positional"}
        return lambda x, activation: kind(*positional, activation=activation, **rest)(x)

    return {name.replace("_", " "): build(given) for name, given in arguments.items()}


def _plain(kind: Any, **arguments: dict[str, Any]) -> dict[str, Build]:
    def build(given):
        return lambda x, _: kind(**given)(x)

    return {name.replace("_", " "): build(given) for name, given in arguments.items()}


def _conv(x: Any, filters: int | None = None, **arguments: Any) -> Any:
    return layers.Conv2D(filters or x.shape[-1], 1, **arguments)(x)


def _merged(kind: Any, **more: dict[str, Any]) -> dict[str, Build]:
    def gate(x):
        return _conv(layers.GlobalAveragePooling2D(keepdims=True)(x), activation="sigmoid")

    several = {
        "default": lambda x, _: kind()([x, _conv(x)]),
        "turned round": lambda x, _: kind()([_conv(x), x]),
        "same twice": lambda x, _: kind()([x, x]),
    }
    if kind is not layers.Subtract:
        several["three inputs"] = lambda x, _: kind()([x, _conv(x), _conv(x, activation="relu")])
    if kind is not layers.Concatenate:
        several["broadcast"] = lambda x, _: kind()([x, gate(x)])
    for name, given in more.items():
        several[name] = lambda x, _, given=given: kind(**given)([x, _conv(x)])
    return several


def _channels_first(kind: Any, *positional: Any, own_activation: bool = False, **given: Any) -> Build:
    def build(x, activation):
        options = {"activation": activation} if own_activation else {}
        moved = layers.Permute((3, 1, 2))(x)
        y = kind(*positional, data_format="channels_first", **options, **given)(moved)
        return layers.Permute((2, 3, 1))(y) if len(y.shape) == 4 else y

    return build


def _channel_values(count: int) -> dict[str, Any]:
    return {"mean": np.linspace(-0.2, 0.3, count).tolist(), "variance": np.linspace(0.5, 2.0, count).tolist()}


PAIR = ((1, 0), (2, 1))
WINDOWS: dict[str, dict[str, Any]] = {
    "default": {"pool_size": 2},
    "strides": {"pool_size": 2, "strides": 1},
    "padding": {"pool_size": 2, "padding": "same"},
    "strides_same": {"strides": 1, "padding": "same", "pool_size": 3},
    "uneven": {"pool_size": (3, 2), "strides": (1, 2), "padding": "same"},
}
bare_concatenate = (
    (lambda parts, axis: keras.ops.concatenate(parts, axis))
    if IS_KERAS_3
    else (lambda parts, axis: tf.concat(parts, axis))
)
bare_relu = keras.ops.relu if IS_KERAS_3 else tf.nn.relu
bare_mean = (
    (lambda x: keras.ops.mean(x, axis=(1, 2), keepdims=True))
    if IS_KERAS_3
    else (lambda x: tf.reduce_mean(x, axis=(1, 2), keepdims=True))
)

SUBJECTS: dict[str, dict[str, Build]] = {
    "Conv2D": {
        **_weighted(
            layers.Conv2D, 8, 3,
            default={}, strides={"strides": 2}, padding={"padding": "same"},
            strides_same={"strides": 2, "padding": "same"}, dilation={"dilation_rate": 2},
            dilation_same={"dilation_rate": (2, 1), "padding": "same"}, groups={"groups": 4, "padding": "same"},
            groups_strides={"groups": 2, "strides": 2}, no_bias={"use_bias": False},
            uneven={"positional": (6, (1, 3)), "strides": (2, 1)}, pixel={"positional": (6, 1)},
            pixel_strides={"positional": (6, 1), "strides": 2},
        ),
        "channels first": _channels_first(layers.Conv2D, 6, 3, own_activation=True, padding="same"),
    },
    "DepthwiseConv2D": {
        **_weighted(
            layers.DepthwiseConv2D, 3,
            default={}, strides={"strides": 2}, padding={"padding": "same"},
            strides_same={"strides": 2, "padding": "same"}, dilation={"dilation_rate": 2},
            dilation_same={"dilation_rate": 2, "padding": "same"}, no_bias={"use_bias": False},
            multiplier={"depth_multiplier": 2}, multiplier_strides={"depth_multiplier": 3, "strides": 2},
            uneven={"positional": ((1, 3),)}, pixel={"positional": (1,)},
        ),
        "channels first": _channels_first(layers.DepthwiseConv2D, 3, own_activation=True, padding="same"),
    },
    "SeparableConv2D": {
        **_weighted(
            layers.SeparableConv2D, 6, 3,
            default={}, strides={"strides": 2}, padding={"padding": "same"},
            strides_same={"strides": 2, "padding": "same"}, dilation={"dilation_rate": 2},
            dilation_same={"dilation_rate": 2, "padding": "same"}, no_bias={"use_bias": False},
            multiplier={"depth_multiplier": 2}, uneven={"positional": (6, (1, 3))}, pixel={"positional": (6, 1)},
        ),
        "channels first": _channels_first(layers.SeparableConv2D, 6, 3, own_activation=True, padding="same"),
    },
    "Conv2DTranspose": {
        **_weighted(
            layers.Conv2DTranspose, 6, 3,
            default={}, strides={"strides": 2}, padding={"padding": "same"},
            strides_same={"strides": 2, "padding": "same"}, dilation={"dilation_rate": 2}, no_bias={"use_bias": False},
            output_padding={"strides": 2, "output_padding": 1}, uneven={"positional": (6, (2, 3)), "strides": (1, 2)},
            kernel_is_stride={"positional": (6, 2), "strides": 2},
            kernel_below_stride={"positional": (6, 1), "strides": 2},
            as_many={"positional": (8, 3), "strides": 2, "padding": "same"},
        ),
        "channels first": _channels_first(layers.Conv2DTranspose, 6, 3, own_activation=True, padding="same"),
    },
    "Dense": {
        **_weighted(layers.Dense, 6, default={}, no_bias={"use_bias": False}),
        "vectors": lambda x, a: layers.Dense(6, activation=a)(layers.Flatten()(layers.MaxPooling2D(3)(x))),
        "vectors no bias": lambda x, a: layers.Dense(6, activation=a, use_bias=False)(layers.GlobalMaxPooling2D()(x)),
        "tokens": lambda x, a: layers.Dense(6, activation=a)(layers.Reshape((-1, x.shape[-1]))(x)),
        "one unit": lambda x, a: layers.Dense(1, activation=a)(x),
    },
    "Activation": {"default": lambda x, a: layers.Activation(a or "linear")(x)},
    "MaxPooling2D": {
        **_plain(layers.MaxPooling2D, **WINDOWS), "channels first": _channels_first(layers.MaxPooling2D, 2),
    },
    "AveragePooling2D": {
        **_plain(layers.AveragePooling2D, **WINDOWS), "channels first": _channels_first(layers.AveragePooling2D, 2),
    },
    "GlobalAveragePooling2D": {
        **_plain(layers.GlobalAveragePooling2D, default={}, keepdims={"keepdims": True}),
        "channels first": _channels_first(layers.GlobalAveragePooling2D),
    },
    "GlobalMaxPooling2D": {
        **_plain(layers.GlobalMaxPooling2D, default={}, keepdims={"keepdims": True}),
        "channels first": _channels_first(layers.GlobalMaxPooling2D),
    },
    "UpSampling2D": {
        **_plain(
            layers.UpSampling2D,
            default={}, size={"size": 3}, uneven={"size": (1, 2)}, bilinear={"interpolation": "bilinear"},
            bilinear_size={"interpolation": "bilinear", "size": (3, 1)}, bicubic={"interpolation": "bicubic"},
        ),
        "channels first": _channels_first(layers.UpSampling2D),
    },
    "Resizing": _plain(
        layers.Resizing,
        default={"height": 18, "width": 16}, size={"height": 5, "width": 6},
        nearest={"height": 18, "width": 16, "interpolation": "nearest"},
        nearest_size={"height": 5, "width": 6, "interpolation": "nearest"},
        crop={"height": 8, "width": 16, "crop_to_aspect_ratio": True},
        bicubic={"height": 12, "width": 12, "interpolation": "bicubic"},
    ),
    "ZeroPadding2D": {
        **_plain(layers.ZeroPadding2D, default={}, uneven={"padding": PAIR}, rows_only={"padding": (2, 0)}),
        "channels first": _channels_first(layers.ZeroPadding2D),
    },
    "Cropping2D": {
        **_plain(layers.Cropping2D, default={"cropping": 1}, uneven={"cropping": PAIR}, rows_only={"cropping": (2, 0)}),
        "channels first": _channels_first(layers.Cropping2D, 1),
    },
    "BatchNormalization": _plain(
        layers.BatchNormalization,
        default={}, no_scale={"scale": False}, no_center={"center": False}, neither={"scale": False, "center": False},
        axis={"axis": 3}, rows={"axis": 1}, columns={"axis": 2}, epsilon={"epsilon": 0.1},
    ),
    "ReLU": _plain(
        layers.ReLU,
        default={}, to_6={"max_value": 6.0}, to_3={"max_value": 3.0}, to_half={"max_value": 0.5},
        slope={"negative_slope": 0.1}, threshold={"threshold": 0.5},
        slope_to_1={"negative_slope": 0.1, "max_value": 1.0},
        threshold_to_1={"threshold": 0.25, "max_value": 1.0}, slope_threshold={"negative_slope": 0.2, "threshold": 0.3},
    ),
    "LeakyReLU": {
        "default": lambda x, _: layers.LeakyReLU()(x), "slope": lambda x, _: layers.LeakyReLU(0.01)(x),
        "slope to 1": lambda x, _: layers.LeakyReLU(0.9)(x), "zero slope": lambda x, _: layers.LeakyReLU(0.0)(x),
    },
    "ELU": _plain(layers.ELU, default={}),
    "PReLU": _plain(
        layers.PReLU,
        default={"alpha_initializer": "random_uniform"},
        shared={"alpha_initializer": "random_uniform", "shared_axes": [1, 2]},
        one={"alpha_initializer": "ones", "shared_axes": [1, 2, 3]},
    ),
    "Softmax": _plain(layers.Softmax, default={}, rows={"axis": 1}, axis={"axis": 3}),
    "Add": _merged(layers.Add),
    "Subtract": _merged(layers.Subtract),
    "Multiply": _merged(layers.Multiply),
    "Average": _merged(layers.Average),
    "Maximum": _merged(layers.Maximum),
    "Minimum": _merged(layers.Minimum),
    "Concatenate": _merged(layers.Concatenate, rows={"axis": 1}, columns={"axis": 2}, axis={"axis": 3}),
    "Reshape": {
        "default": lambda x, _: layers.Reshape((x.shape[2], x.shape[1], x.shape[3]))(x),
        "channels": lambda x, _: layers.Reshape((x.shape[1], x.shape[2] * 2, x.shape[3] // 2))(x),
        "tokens": lambda x, _: layers.Reshape((-1, x.shape[3]))(x),
    },
    "Flatten": {"default": lambda x, _: layers.Flatten()(x), "channels first": _channels_first(layers.Flatten)},
    "Permute": _plain(layers.Permute, default={"dims": (2, 1, 3)}, channels={"dims": (1, 3, 2)},
                     rows={"dims": (3, 1, 2)}),
    "Dropout": {
        "default": lambda x, _: layers.Dropout(0.2)(x), "spatial": lambda x, _: layers.SpatialDropout2D(0.2)(x),
        "noise": lambda x, _: layers.GaussianNoise(0.2)(x),
    },
    "Rescaling": _plain(
        layers.Rescaling, default={"scale": 0.5, "offset": 0.1}, scale={"scale": 2.0},
        offset={"scale": 1.0, "offset": -0.3},
        negative={"scale": -0.5, "offset": 0.2},
    ),
    "Normalization": {
        "default": lambda x, _: layers.Normalization(**_channel_values(x.shape[-1]))(x),
        "one mean": lambda x, _: layers.Normalization(axis=None, mean=0.2, variance=2.0)(x),
        "rows": lambda x, _: layers.Normalization(axis=1, **_channel_values(x.shape[1]))(x),
        "invert": lambda x, _: layers.Normalization(invert=True, **_channel_values(x.shape[-1]))(x),
    },
    "BlurPool2D": _plain(BlurPool2D, default={}, strides={"strides": 1}),
    "Channels": {
        "mean": lambda x, _: ChannelMean()(x), "largest": lambda x, _: ChannelMax()(x),
        "slice": lambda x, _: ChannelSlice(1, 3)(x), "pad": lambda x, _: ChannelPad(1, 2)(x),
        "gate": lambda x, _: layers.Multiply()([x, ChannelMean()(x)]),
    },
    "bare": {
        "add": lambda x, _: x + _conv(x), "multiply": lambda x, _: x * _conv(x), "subtract": lambda x, _: x - _conv(x),
        "three inputs": lambda x, _: x + _conv(x) + _conv(x), "add number": lambda x, _: x + 0.5,
        "multiply number": lambda x, _: x * -1.5, "from number": lambda x, _: 1.0 - x,
        "relu": lambda x, _: bare_relu(x), "relu of sum": lambda x, _: bare_relu(x + _conv(x)),
        "concatenate": lambda x, _: bare_concatenate([x, _conv(x)], -1),
        "rows": lambda x, _: bare_concatenate([x, _conv(x)], 1), "mean": lambda x, _: bare_mean(x),
        "slice": lambda x, _: x[:, 1:, :, 1:],
        "broadcast": lambda x, _: x * bare_mean(x),
    },
}  # fmt: skip
_OWN_ACTIVATION = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose", "Dense", "Activation")
_VECTORS = {
    ("Dense", "vectors"), ("Dense", "vectors no bias"), ("GlobalAveragePooling2D", "default"),
    ("GlobalAveragePooling2D", "channels first"), ("GlobalMaxPooling2D", "default"),
    ("GlobalMaxPooling2D", "channels first"), ("Flatten", "default"), ("Flatten", "channels first"),
}  # fmt: skip
_TOKENS = {("Dense", "tokens"), ("Reshape", "tokens")}

# --- neighbours ----------------------------------------------------------------------------------------------------

BEFORE: dict[str, Callable[[Any], Any]] = {
    "none": lambda x: x,
    "norm": lambda x: layers.BatchNormalization()(x),
    "pool": lambda x: layers.MaxPooling2D(2, 1)(x),
    "mean": lambda x: layers.AveragePooling2D(2, 1, padding="same")(x),
    "concat": lambda x: layers.Concatenate()([x, _conv(x, 4)]),
    "reshape": lambda x: layers.Reshape((x.shape[2], x.shape[1], x.shape[3]))(x),
    "add": lambda x: layers.Add()([x, _conv(x)]),
}


def _moved(x: Any) -> Any:
    return layers.Reshape(tuple(x.shape[1:])[::-1])(x)


def _weighted_after(x: Any, units: int = 4) -> Any:
    return _conv(x, units) if len(x.shape) == 4 else layers.Dense(units)(x)


#: Name -> function of what makes the layer's result; called twice, it makes two layers.
AFTER: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "none": lambda make: make(),
    "norm": lambda make: layers.BatchNormalization()(make()),
    "norm relu": lambda make: layers.ReLU()(layers.BatchNormalization()(make())),
    "relu": lambda make: layers.ReLU()(make()),
    "pool": lambda make: layers.MaxPooling2D(2, 1, padding="same")(make()),
    "mean": lambda make: layers.AveragePooling2D(2, 2, padding="same")(make()),
    "concat": lambda make: _weighted_after(layers.Concatenate()([make(), make()])),
    "reshape": lambda make: _moved(make()),
    "add": lambda make: layers.Add()([make(), make()]),
    "conv": lambda make: _weighted_after(make()),
}
#: Scheme and target -> scheme, suffix, options of the export.
WAYS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "edge_int8 litert": ("edge_int8", ".tflite", {}),
    "edge_int8 onnxruntime": ("edge_int8", ".onnx", {"target": "onnxruntime"}),
    "gpu_int8 tensorrt": ("gpu_int8", ".onnx", {"target": "tensorrt"}),
    "portable_int8 litert": ("portable_int8", ".tflite", {}),
    "portable_int8 onnxruntime": ("portable_int8", ".onnx", {"target": "onnxruntime"}),
    "portable_int8 tensorrt": ("portable_int8", ".onnx", {"target": "tensorrt"}),
    "edge_int16x8 litert": ("edge_int16x8", ".tflite", {}),
}

FACTORS = {
    "layer": tuple(SUBJECTS),
    "argument": tuple(dict.fromkeys(name for arguments in SUBJECTS.values() for name in arguments)),
    "activation": ACTIVATIONS,
    "before": tuple(BEFORE),
    "after": tuple(AFTER),
    "way": tuple(WAYS),
}


def valid(case: Case) -> bool:
    """Whether there is such a network."""
    layer, argument, after = case["layer"], case["argument"], case["after"]
    if argument not in SUBJECTS[layer]:
        return False
    if case["activation"] != "linear" and layer not in _OWN_ACTIVATION:
        return False
    if (layer, argument) in _VECTORS | _TOKENS and after in ("pool", "mean"):
        return False
    return not (case["activation"] == "softmax" and argument == "one unit")


def all_cases() -> list[Case]:
    """Cases in which every triple of factor values occurs."""
    return covering_array(FACTORS, valid)


def name_of(case: Case) -> str:
    """One line that names the case."""
    return "/".join(case.values())


def case_of(name: str) -> Case:
    """The case of a name."""
    return dict(zip(FACTORS, name.split("/"), strict=True))


# --- building ------------------------------------------------------------------------------------------------------


def branch(image: Any, case: Case) -> Any:
    """One case as a branch of a model; its weights depend on nothing but the case.

    For a scheme that leaves the last layer of each head in float, a further layer is the last.
    """
    seed = zlib.crc32(name_of(case).encode()) % 2**31
    keras.utils.set_random_seed(seed)
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(image))
    x = layers.ReLU()(x) if seed % 2 else x
    x = BEFORE[case["before"]](x)
    build = SUBJECTS[case["layer"]][case["argument"]]
    y = AFTER[case["after"]](lambda: build(x, activation_of(case["activation"])))
    if case["way"].startswith("gpu_int8"):
        y = _weighted_after(y, 3)
    randomise_with_signs(keras.Model(image, y), seed)
    return y


def network(cases: list[Case]) -> Any:
    """A model with a branch and an output a case."""
    image = layers.Input(IMAGE)
    outputs = [branch(image, case) for case in cases]
    return keras.Model(image, outputs if len(outputs) > 1 else outputs[0])


def randomise_with_signs(model: Any, seed: int) -> None:
    """Batch norms as after training, biases and slopes not zero."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape
            for weight, values in (
                (layer.gamma, random.uniform(0.5, 1, size) * np.where(np.arange(size[0]) % 3 == 2, -1, 1)),
                (layer.beta, random.normal(0, 0.2, size)),
                (layer.moving_mean, random.normal(0, 0.2, size)),
                (layer.moving_variance, random.uniform(0.8, 1.5, size)),
            ):
                if weight is not None:
                    weight.assign(values)
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(0, 0.1, layer.bias.shape))


def pictures(count: int = 16) -> np.ndarray:
    """Smooth random pictures, unlike each other."""
    random = np.random.default_rng(0)
    coarse = random.normal(0, 1, (count, 3, 3, IMAGE[2])) * random.uniform(0.3, 1.5, (count, 1, 1, IMAGE[2]))
    smooth = tf.image.resize(coarse.astype("float32"), IMAGE[:2], "bicubic").numpy()
    return smooth + random.normal(0, 0.2, smooth.shape).astype("float32")
