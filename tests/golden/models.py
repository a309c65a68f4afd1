"""Small models, one of every kind that users export, with the same weights on every machine and in both Kerases.

Kernels and batch-norm statistics are drawn uniformly: such numbers depend on no CPU's logarithm or square root.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.backbones.darknet.spec import DarkNetSpec
from resnet_backbones.backbones.mobilenet.spec import MobileNetSpec, MobileStage
from resnet_backbones.backbones.regnet.spec import RegNetSpec
from resnet_backbones.backbones.resnet.spec import ResNetSpec
from resnet_backbones.keras_compat import keras

layers = keras.layers
SIZE = 64
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, SIZE, SIZE, 3)).astype("float32")

_NARROW: dict[str, Any] = {"depths": (1, 2, 1, 1), "widths": (8, 12, 16, 24), "stem_width": 8}
_SPECS = {
    "basic": ResNetSpec(block="basic", **_NARROW),
    "bottleneck": ResNetSpec(**_NARROW, stem="deep", shortcut="avg_pool", groups=2, group_width=32),
    "attention": ResNetSpec(block="basic", **_NARROW, attention="cbam", attention_ratio=0.25, antialias="blur"),
    "bottle2neck": ResNetSpec(block="bottle2neck", **_NARROW, scale=3, group_width=32),
    "preact_basic": ResNetSpec(block="preact_basic", **_NARROW, stem="3x3", shortcut="pad"),
    "preact_bottleneck": ResNetSpec(block="preact_bottleneck", **_NARROW, conv_bias=True, stem_pool="max_zeros"),
    "dark": DarkNetSpec(depths=(1,) * 5, widths=(8, 8, 12, 16, 24), stem_widths=(8,)),
    "cross_stage": DarkNetSpec(
        stage="cs3", activation="silu", depths=(1,) * 4, widths=(8, 12, 16, 24), stem_widths=(8,), stem_kernel=6,
        stem_stride=2, block_ratio=0.5, bottleneck_ratio=1.0,
    ),
    "mobilenet_v2": MobileNetSpec(
        stages=(
            MobileStage("separable", 8),
            *(MobileStage("inverted", width, (2, 3), stride=2) for width in (12, 16, 24, 24)),
        ),
        stem_width=8,
    ),
    "mobilenet_v3": MobileNetSpec(
        stages=(
            MobileStage("separable", 8, stride=2, se_ratio=0.25, activation="relu"),
            MobileStage("inverted", 12, (2, 2), stride=2, activation="relu"),
            MobileStage("inverted", 16, (2, 2), kernel=5, stride=2, se_ratio=0.25),
            MobileStage("inverted", 24, (2,), kernel=5, stride=2, se_ratio=0.25),
            MobileStage("conv", 32, kernel=1),
        ),
        stem_width=8, activation="hard_swish", head="pooled", head_width=32, include_head=True,
    ),
    "regnet": RegNetSpec(depth=5, w0=8, wa=8.0, wm=2.0, group_width=8, stem_width=8, se_ratio=0.25),
}  # fmt: skip


@keras.saving.register_keras_serializable("golden")
class Subclassed(keras.Model):
    """A residual network whose sum and activations are bare operations, and whose convolution is called twice."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rescale = layers.Rescaling(1 / 127.5, -1.0, name="rescale")
        self.stem = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")
        self.norm = layers.BatchNormalization(name="norm")
        self.shared = layers.Conv2D(8, 3, padding="same", name="shared")
        self.pool, self.head = layers.GlobalAveragePooling2D(name="pool"), layers.Dense(5, name="head")

    def call(self, inputs, training=None):
        x = tf.nn.relu(self.norm(self.stem(self.rescale(inputs)), training=training))
        x = tf.nn.relu(self.shared(tf.nn.relu(self.shared(x))) + x)
        return self.head(self.pool(x))

    def get_config(self):
        return {"name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _subclassed() -> Any:
    model = Subclassed(name="subclassed")
    model(tf.zeros((1, SIZE, SIZE, 3)))
    return model


def _nested() -> Any:
    """A functional model within another, of layers that no backbone of this library has."""
    image = layers.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="first")(image)
    x = layers.SeparableConv2D(12, 3, padding="same", use_bias=False, name="separable")(x)
    x = layers.ReLU(6.0, name="clip")(layers.BatchNormalization(name="norm")(x))
    y = layers.Conv2D(8, 3, strides=2, padding="same", dilation_rate=1, name="down")(x)
    y = layers.PReLU(shared_axes=[1, 2], name="prelu")(y)
    y = layers.Conv2DTranspose(8, 3, strides=2, padding="same", name="up")(y)
    y = layers.LeakyReLU(name="leaky")(layers.BatchNormalization(name="up_norm")(y))
    x = layers.Concatenate(name="join")([x, y])
    x = layers.MaxPooling2D(2, name="pool")(layers.ZeroPadding2D(1, name="pad")(x))
    base = keras.Model(image, layers.Conv2D(16, 3, dilation_rate=2, name="wide")(x), name="base")
    image = layers.Input((SIZE, SIZE, 3))
    x = base(layers.Rescaling(1 / 127.5, -1.0, name="rescale")(image))
    x = layers.Activation("sigmoid", name="gate")(layers.UpSampling2D(2, name="larger")(x))
    return keras.Model(image, layers.Dense(5, name="head")(layers.Flatten(name="flat")(layers.MaxPooling2D(8)(x))))


def _backbone(name: str) -> Any:
    scaling = rb.Preprocessing(1 / 127.5, -1.0)
    return rb.create_backbone(_SPECS[name].replace(preprocessing=scaling), input_shape=(SIZE, SIZE, 3))


def _task(task: str, backbone: str, classes: int = 5, **arguments: Any) -> Any:
    return lambda: getattr(rb.adapters.keras_cv, task)(_backbone(backbone), num_classes=classes, **arguments)


_BOXES = {"bounding_box_format": "xywh"}
BUILD = {
    **{name: _task("image_classifier", name, activation=None) for name in _SPECS},
    "retinanet": _task("retinanet", "basic", 3, head_depth=1, **_BOXES),
    "yolo_v8": _task("yolo_v8_detector", "dark", 3, fpn_depth=1, **_BOXES),
    "deeplab": _task("deeplab_v3_plus", "basic", projection_filters=8),
    "segformer": _task("segformer", "basic", projection_filters=16),
    "subclassed": _subclassed,
    "nested": _nested,
}


def seeded(model: Any) -> Any:
    """The model with weights that depend on nothing but their order and shape."""
    named = [(variable, variable.name.split("/")[-1].split(":")[0]) for variable in model.weights]
    named = [(variable, name) for variable, name in named if not name.startswith(_QUANTIZERS)]
    for number, (variable, name) in enumerate(named):
        shape, random = tuple(variable.shape), np.random.default_rng(number)
        if not tf.as_dtype(variable.dtype).is_floating:
            continue  # the counters of random numbers
        low, high = _BOUNDS.get(name, (-0.1, 0.1))
        if len(shape) > 1 and "kernel" in name:
            inputs = np.prod(shape[:2]) if "depthwise" in name else np.prod(shape[:-1])
            low, high = -((6 / inputs) ** 0.5), (6 / inputs) ** 0.5
        variable.assign(random.uniform(low, high, shape).astype("float32"))
    return model


_QUANTIZERS = ("range", "batches_seen", "observing", "frozen", "epochs", "steps")  # variables that quantization adds
_BOUNDS = {
    "gamma": (0.5, 1.0),
    "beta": (-0.3, 0.3),
    "moving_mean": (-0.3, 0.3),
    "moving_variance": (0.8, 1.5),
    "alpha": (0.1, 0.3),
}


def snapped(model: Any) -> Any:
    """The quantized model with each range's bounds raised to powers of 1.25.

    What a CPU adds up in another order moves a range by its last bits, and they every integer of a bias.
    """
    for quantizer in rb.quantization.quantizers_of(model):
        if quantizer.fixed_range is None and quantizer.has_range:
            quantizer.set_range(*(np.sign(bound) * _raised(abs(bound)) for bound in quantizer.range()))
    return model


def _raised(value: float) -> float:
    return 1.25 ** np.ceil(np.log(value) / np.log(1.25)) if value else 0.0
