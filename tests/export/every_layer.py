"""Every kind of layer of Keras between two convolutions, and odd operations in a ``Lambda``."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from resnet_backbones.keras_compat import keras

layers = keras.layers
IMAGES = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype("float32")


def _rows(x):
    return layers.Reshape((16, 16))(x)


def _volume(x):
    return layers.Reshape((4, 4, 4, 4))(x)


def _frames(x):
    return layers.Reshape((2, 4, 8, 4))(x)


def _on(shape, layer, *arguments, **options):
    """A layer of images, or of what ``shape`` makes of them."""
    return lambda x: getattr(layers, layer)(*arguments, **options)(shape(x) if shape else x)


def _wrapped(wrapper, shape, inner):
    return lambda x: getattr(layers, wrapper)(inner())(shape(x))


def _with_itself(layer, *arguments, listed=False, **options):
    def build(x):
        x = _rows(x)
        made = getattr(layers, layer)(*arguments, **options)
        return made([x, x]) if listed else made(x, x)

    return build


def _operation(function):
    return lambda x: layers.Lambda(function)(x)


@tf.custom_gradient
def _with_gradient(x):
    return 2.0 * x, lambda upstream: upstream


def _sequential():
    return keras.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3)])


def _loop(x):
    return tf.while_loop(lambda i, _: i < 3, lambda i, v: (i + 1, 0.5 * v + 0.1), [tf.constant(0), x])[1]


def _several(kind, shape, options):
    return {f"{kind} {given}": _on(shape, kind, 4, **given) for given in options}


_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5", "area", "gaussian", "mitchellcubic")
WEIGHTED = {
    **_several(
        "Conv1D",
        _rows,
        [{"kernel_size": 3}, {"kernel_size": 3, "dilation_rate": 2, "padding": "causal"}]
        + [{"kernel_size": 3, "groups": 2}, {"kernel_size": 3, "strides": 2}],
    ),
    **_several(
        "Conv1DTranspose",
        _rows,
        [{"kernel_size": 3, "strides": 2}, {"kernel_size": 3, "dilation_rate": 2}]
        + [{"kernel_size": 3, "strides": 2, "output_padding": 1}, {"kernel_size": 1, "strides": 2}],
    ),
    **_several(
        "Conv2DTranspose",
        None,
        [{"kernel_size": 3, "dilation_rate": 2}, {"kernel_size": 3, "dilation_rate": 3, "padding": "same"}]
        + [{"kernel_size": (2, 3), "dilation_rate": 2, "use_bias": False, "activation": "relu"}],
    ),
    **_several(
        "Conv3D",
        _volume,
        [{"kernel_size": 2}, {"kernel_size": 2, "dilation_rate": 2}, {"kernel_size": 2, "groups": 2}],
    ),
    **_several(
        "Conv3DTranspose",
        _volume,
        [{"kernel_size": 2, "strides": 2}, {"kernel_size": 3, "strides": 2, "padding": "same", "use_bias": False}]
        + [{"kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1}, {"kernel_size": 1, "strides": 2}],
    ),
    "DepthwiseConv1D": _on(_rows, "DepthwiseConv1D", 3),
    "SeparableConv1D": _on(_rows, "SeparableConv1D", 4, 3),
    "Dense on volumes": _on(_volume, "Dense", 3),
    "EinsumDense": _on(_rows, "EinsumDense", "abc,cd->abd", output_shape=(16, 8), bias_axes="d"),
    "EinsumDense to heads": _on(_rows, "EinsumDense", "abc,cde->abde", output_shape=(16, 2, 4), bias_axes="de"),
    "EinsumDense of images": _on(None, "EinsumDense", "abcd,de->abce", output_shape=(8, 8, 4), activation="relu"),
    "MultiHeadAttention": _with_itself("MultiHeadAttention", 2, 4),
    "Attention": _with_itself("Attention", listed=True, use_scale=True),
    "AdditiveAttention": _with_itself("AdditiveAttention", listed=True),
    "Dot": _with_itself("Dot", listed=True, axes=2),
    "TimeDistributed convolution": _wrapped("TimeDistributed", _frames, lambda: layers.Conv2D(4, 3)),
    "TimeDistributed network": _wrapped("TimeDistributed", _frames, _sequential),
    "TimeDistributed norm": _wrapped("TimeDistributed", _frames, layers.BatchNormalization),
    "SpectralNormalization": _wrapped("SpectralNormalization", lambda x: x, lambda: layers.Conv2D(4, 3)),
}
RECURRENT = {
    "LSTM": _on(_rows, "LSTM", 3),
    "GRU": _on(_rows, "GRU", 3, return_sequences=True),
    "SimpleRNN": _on(_rows, "SimpleRNN", 3),
    "Bidirectional": _wrapped("Bidirectional", _rows, lambda: layers.LSTM(3)),
    "stateful LSTM": lambda x: layers.LSTM(3, stateful=True)(_rows(x)),
    "masked LSTM": lambda x: layers.LSTM(3)(layers.Masking()(_rows(x))),
    "ConvLSTM1D": _on(lambda x: layers.Reshape((4, 8, 8))(x), "ConvLSTM1D", 3, 2),
    "ConvLSTM2D": _on(_frames, "ConvLSTM2D", 3, 2),
}
OTHERS = {
    **{f"UpSampling2D {kind}": _on(None, "UpSampling2D", interpolation=kind) for kind in _INTERPOLATIONS},
    **{f"Resizing {kind}": _on(None, "Resizing", 12, 10, interpolation=kind) for kind in _INTERPOLATIONS},
    "Resizing antialias": _on(None, "Resizing", 6, 5, antialias=True),
    "UpSampling1D": _on(_rows, "UpSampling1D"),
    "UpSampling3D": _on(_volume, "UpSampling3D"),
    **{f"{kind}Pooling1D": _on(_rows, f"{kind}Pooling1D", 2) for kind in ("Max", "Average")},
    **{f"Global{kind}Pooling1D": _on(_rows, f"Global{kind}Pooling1D") for kind in ("Max", "Average")},
    **{
        f"{kind}Pooling3D": _on(_volume, f"{kind}Pooling3D", *(() if "Global" in kind else (2,)))
        for kind in ("Max", "Average", "GlobalMax", "GlobalAverage")
    },
    "AdaptiveAveragePooling2D": _on(None, "AdaptiveAveragePooling2D", 4),
    "Cropping1D": _on(_rows, "Cropping1D"),
    "Cropping3D": _on(_volume, "Cropping3D"),
    "ZeroPadding1D": _on(_rows, "ZeroPadding1D"),
    "ZeroPadding3D": _on(_volume, "ZeroPadding3D"),
    "CenterCrop": _on(None, "CenterCrop", 6, 6),
    "RepeatVector": lambda x: layers.RepeatVector(3)(layers.Flatten()(x)),
    "LayerNormalization": _on(None, "LayerNormalization"),
    "LayerNormalization of all": _on(None, "LayerNormalization", axis=(1, 2, 3)),
    "RMSNormalization": _on(None, "RMSNormalization"),
    "GroupNormalization": _on(None, "GroupNormalization", 2),
    "UnitNormalization": _on(None, "UnitNormalization"),
    "BatchNormalization in training": lambda x: layers.BatchNormalization()(x, training=True),
    "BatchNormalization of rows": lambda x: layers.BatchNormalization()(layers.Conv1D(4, 3)(_rows(x))),
    "Dropout in training": lambda x: layers.Dropout(0.5)(x, training=True),
    "GaussianNoise in training": lambda x: layers.GaussianNoise(0.5)(x, training=True),
    "AlphaDropout": _on(None, "AlphaDropout", 0.5),
    "ActivityRegularization": _on(None, "ActivityRegularization"),
    "RandomFlip": _on(None, "RandomFlip"),
    "Masking": _on(_rows, "Masking"),
    "Embedding": lambda x: layers.Embedding(10, 4)(
        layers.Lambda(lambda v: tf.cast(9.0 * tf.clip_by_value(v, 0.0, 1.0), tf.int32))(_rows(x))
    ),
    "Discretization": lambda x: layers.Lambda(lambda v: tf.cast(v, tf.float32))(layers.Discretization([0.1, 0.3])(x)),
}
OPERATIONS = {
    "cumsum": lambda x: tf.cumsum(x, axis=1),
    "sort": tf.sort,
    "top_k": lambda x: tf.math.top_k(x, 2)[0],
    "einsum": lambda x: tf.einsum("bhwc,bhwd->bhcd", x, x),
    "matmul": lambda x: tf.matmul(x, x, transpose_b=True),
    "convolution": lambda x: tf.nn.conv2d(x, 0.1 * tf.ones((3, 3, 4, 4)), 1, "SAME"),
    "svd": lambda x: tf.linalg.svd(x, compute_uv=False),
    "qr": lambda x: tf.linalg.qr(x)[0],
    "cross": lambda x: tf.linalg.cross(x[..., :3], x[..., :3] + 1.0),
    "adjust_contrast": lambda x: tf.image.adjust_contrast(x, 2.0),
    "adjust_saturation": lambda x: tf.image.adjust_saturation(x[..., :3], 2.0),
    "rgb_to_hsv": lambda x: tf.image.rgb_to_hsv(x[..., :3]),
    "extract_patches": lambda x: tf.image.extract_patches(x, (1, 2, 2, 1), (1, 2, 2, 1), (1, 1, 1, 1), "VALID"),
    "resize bicubic": lambda x: tf.image.resize(x, (6, 6), "bicubic"),
    "resize area": lambda x: tf.image.resize(x, (6, 6), "area"),
    "total_variation": lambda x: x * tf.reshape(tf.image.total_variation(x), (-1, 1, 1, 1)),
    "rfft": lambda x: tf.abs(tf.signal.rfft(x)),
    "dct": tf.signal.dct,
    "numpy_function": lambda x: tf.ensure_shape(tf.numpy_function(lambda v: 2 * v, [x], tf.float32), (None, 8, 8, 4)),
    "string": lambda x: x * tf.strings.to_number(tf.strings.as_string(x)),
    "custom gradient": _with_gradient,
    "where": lambda x: tf.where(x > 0.2, x, -x),
    "any": lambda x: x * tf.cast(tf.reduce_any(x > 0.1, axis=-1, keepdims=True), tf.float32),
    "log1p": tf.math.log1p,
    "xlogy": lambda x: tf.math.xlogy(x, x + 1.0),
    "while": _loop,
    "cond": lambda x: tf.cond(tf.reduce_sum(x) > 0.0, lambda: 2.0 * x, lambda: x - 1.0),
    "map_fn": lambda x: tf.map_fn(lambda one: one * tf.reduce_max(one), x),
    "random": lambda x: x + tf.random.normal(tf.shape(x)),
    "norm": lambda x: tf.norm(x, axis=-1, keepdims=True) * x,
    "softmax of rows": lambda x: tf.nn.softmax(x, axis=1),
}
KINDS = {**WEIGHTED, **RECURRENT, **OTHERS, **{f"tf {name}": _operation(call) for name, call in OPERATIONS.items()}}


# What one Keras lacks, or a CPU without oneDNN cannot run.
NOT_EVERYWHERE = {
    *(kind for kind in WEIGHTED if "Transpose" in kind and "dilation_rate" in kind),
    *(f"{layer} {how}" for layer in ("UpSampling2D", "Resizing") for how in ("gaussian", "mitchellcubic")),
    *("Resizing antialias", "AdaptiveAveragePooling2D", "RMSNormalization"),
}


def network(kind):
    """A small network with one layer, or operation, of this kind; ``None`` if Keras lacks it here."""
    keras.utils.set_random_seed(1)
    image = layers.Input(IMAGES.shape[1:], batch_size=4 if kind == "stateful LSTM" else None)
    before = layers.Conv2D(4, 3, padding="same", activation="relu", bias_initializer="ones", name="before")
    try:
        values = KINDS[kind](before(image))
        keras.Model(image, values)(IMAGES, training=False)
    except (AttributeError, TypeError, ValueError, tf.errors.OpError):
        if kind not in NOT_EVERYWHERE:
            raise
        return None
    last = layers.Conv2D(3, 1, name="after") if len(values.shape) == 4 else layers.Dense(3, name="after")
    return keras.Model(image, last(values), name="network")
