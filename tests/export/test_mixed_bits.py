"""Layers with 8 and with 16 bits one after the other, in every order: files are as Keras is, or refused."""

from __future__ import annotations

import itertools
import re
import warnings

import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import activation_function, keras
from tests.support.nets import images, randomise

layers = keras.layers
IMAGES = images(32, 8, 8, 4)


def _on(kind, *arguments, **options):
    return lambda x, name, _: getattr(layers, kind)(*arguments, name=name, **options)(x)


def _activation(name_of_it):
    return lambda x, name, _: layers.Activation(activation_function(name_of_it), name=name)(x)


def _merge(kind, count=2):
    def merged(x, name, image):
        others = [layers.Conv2D(6, 1, padding="same", name=f"before_{name}_{i}")(image) for i in range(count - 1)]
        return getattr(layers, kind)(name=name)([x, *others])

    return merged


#: A layer between two convolutions; those of the second table have 8 bits only.
MIDDLES = {
    **{f"relu to {limit}": _on("ReLU", limit) for limit in (None, 6.0, 4.0)},
    "conv": _on("Conv2D", 6, 3, activation="relu"),
    "depthwise": _on("DepthwiseConv2D", 3),
    "separable": _on("SeparableConv2D", 6, 3),
    "transposed": _on("Conv2DTranspose", 6, 3, strides=2),
    "dense": _on("Dense", 6),
    **{kind: _merge(kind) for kind in ("Add", "Multiply", "Subtract", "Maximum", "Minimum")},
    "max pooling": _on("MaxPooling2D", 2),
    "average pooling": _on("AveragePooling2D", 2),
    "average": _on("AveragePooling2D", 3, strides=1, padding="same"),
    "mean": _on("GlobalAveragePooling2D"),
    "padding": _on("ZeroPadding2D", 1),
    "permute": _on("Permute", (2, 1, 3)),
    "nearest": _on("UpSampling2D", 2),
    "relu, average": lambda x, name, _: layers.ReLU()(layers.AveragePooling2D(2, name=name)(x)),
}
IN_8_BITS = {
    **{name: _activation(name) for name in ("silu", "sigmoid", "tanh", "softmax", "gelu")},
    "conv silu": _on("Conv2D", 6, 3, activation=activation_function("silu")),
    **{kind: _merge(kind) for kind in ("Average", "Concatenate")},
}
#: What LiteRT computes a step off here and there in 8 bits.
ROUGH = {
    "leaky": _on("LeakyReLU"),
    "prelu": _on("PReLU", keras.initializers.Constant(0.3), shared_axes=(1, 2)),
    "hard sigmoid": _activation("hard_sigmoid"),
    "hard swish": _activation("hard_swish"),
    "bilinear": _on("UpSampling2D", 2, interpolation="bilinear"),
    "resized": _on("Resizing", 12, 10),
}


def network(middles):
    """A model with an output a middle."""
    keras.utils.set_random_seed(1)
    image, outputs = layers.Input((8, 8, 4)), []
    for number, middle in enumerate(middles):
        x = middle(layers.Conv2D(6, 3, padding="same", name=f"before_{number}")(image), f"middle_{number}", image)
        last = (
            layers.Conv2D(3, 1, name=f"after_{number}")
            if len(x.shape) == 4
            else layers.Dense(24, name=f"after_{number}")
        )
        outputs.append(last(x))
    return randomise(keras.Model(image, outputs, name="network"))


def quantized(model, *in_8_bits, **options):
    override = {f"{name}_*": {"activation_bits": 8} for name in in_8_bits}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what stays in float
        return rb.quantize_post_training(model, "edge_int16x8", calibration_data=IMAGES, override=override, **options)


def passes(model, path):
    report = rb.export_model(model, path / "m.tflite", parity_data=IMAGES)
    in_float = ("multiply-accumulates", "counts as float")
    assert [one for one in report.failures if not any(words in one for words in in_float)] == []
    return report


ORDERS = [one for count in range(4) for one in itertools.combinations(("before", "middle", "after"), count)]
OFTEN = (("middle",), ("before",))


@pytest.mark.parametrize(
    "in_8_bits",
    [pytest.param(one, marks=() if one in OFTEN else pytest.mark.exhaustive, id="-".join(one)) for one in ORDERS],
)
def test_8_bits_and_16(in_8_bits, tmp_path):
    middles = {**MIDDLES, **(IN_8_BITS if "middle" in in_8_bits else {})}
    report = passes(quantized(network(middles.values()), *in_8_bits), tmp_path)
    assert report.passed
    assert report.census.int8_share == 1


@pytest.mark.parametrize("kind", ROUGH)
def test_8_bits_that_16_would_see_are_refused_and_remedied(kind, tmp_path):
    with pytest.raises(ValueError, match="step off here and there") as refusal:
        quantized(network([ROUGH[kind]]), "before", "middle")
    assert "override={'after_0': {'activation_bits': 8}}" in str(refusal.value)
    assert "exclude=['middle_0']" in str(refusal.value)
    passes(quantized(network([ROUGH[kind]]), "before", "middle", "after"), tmp_path)
    passes(quantized(network([ROUGH[kind]]), "before", exclude=["middle_0"]), tmp_path)


SIZES = ((12, 10), (5, 5), (24, 24), (7, 16), (8, 13), (1, 30))


def test_bilinear_resizing_of_16_bits(tmp_path):
    sizes = [_on("Resizing", *size) for size in SIZES]
    enlarged = [_on("UpSampling2D", size, interpolation="bilinear") for size in (2, 3, (3, 5))]
    assert passes(quantized(network([*sizes, *enlarged])), tmp_path).passed


class Resized(layers.Layer):
    """A block that resizes by itself."""

    def __init__(self, size):
        super().__init__()
        self.size, self.convolution = size, layers.Conv2D(6, 1)

    def build(self, shape):
        self.convolution.build(shape)

    def call(self, inputs):
        import tensorflow as tf

        return tf.image.resize(self.convolution(inputs), self.size)

    def compute_output_shape(self, shape):
        return (shape[0], *self.size, 6)


def test_bilinear_resizing_outside_of_a_layer():
    with pytest.raises(ValueError, match=r"ResizeBilinear', which is no layer, .*Use a layer for it, Resizing"):
        quantized(network([lambda x, *_: Resized((12, 10))(x)]))


def test_bilinear_resizing_of_a_part(tmp_path):
    cropped = _on("Resizing", 12, 10, crop_to_aspect_ratio=True)
    with pytest.raises(ValueError, match=re.escape("or leave it in float, exclude=['middle_0']")):
        quantized(network([cropped]))
    passes(quantized(network([cropped]), exclude=["middle_0"]), tmp_path)
