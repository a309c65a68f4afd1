"""Models that share layers: how a small net is wrapped, cut or extended, and what to do with it."""

from __future__ import annotations

from resnet_backbones.keras_compat import keras
from resnet_backbones.layers import BatchNormalization
from tests.support.nets import even_images, randomise

layers = keras.layers
IMAGES = even_images(0, 1, 8, 8, 8, 3)


def net():
    """Convolution, batch norm, ReLU, a residual convolution, global average, dense."""
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="first")(image)
    x = layers.ReLU(name="rectified")(BatchNormalization(name="norm")(x))
    x = layers.Add(name="sum")([x, layers.Conv2D(6, 1, activation="relu", name="second")(x)])
    return randomise(keras.Model(image, layers.Dense(4, name="head")(layers.GlobalAveragePooling2D(name="pool")(x))))


@keras.saving.register_keras_serializable("model_boundaries")
class Ensemble(keras.Model):
    """A model of one's own: the sum of nets in a list."""

    def __init__(self, nets, **kwargs):
        super().__init__(**kwargs)
        self.nets = nets

    def call(self, images, training=False):
        return sum((net(images, training=training) for net in self.nets[1:]), self.nets[0](images, training=training))

    def get_config(self):
        return {"name": self.name, "nets": [keras.saving.serialize_keras_object(net) for net in self.nets]}

    @classmethod
    def from_config(cls, config):
        return _called(cls([keras.saving.deserialize_keras_object(net) for net in config["nets"]], name=config["name"]))


def _called(model):
    model(IMAGES[:1])
    return model


def _functional(inner, after=lambda x: x, before=lambda x: x):
    image = layers.Input((8, 8, 3))
    return keras.Model(image, after(inner(before(image))))


def _siamese(inner):
    image = layers.Input((8, 8, 3))
    return keras.Model(image, layers.Concatenate()([inner(image), inner(layers.AveragePooling2D(1)(image))]))


def _cut(name):
    return lambda inner: keras.Model(inner.inputs[0], inner.get_layer(name).output)


#: What is made of a net.
WRAPPERS = {
    "subclass": lambda inner: _called(Ensemble([inner])),
    "list attribute": lambda inner: _called(Ensemble([inner, net()])),
    "nested": _functional,
    "nested twice": lambda inner: _functional(_called(Ensemble([_functional(inner)]))),
    "sequential": lambda inner: keras.Sequential([layers.Input((8, 8, 3)), inner]),
    "dense after": lambda inner: _functional(inner, layers.Dense(3, name="after")),
    "relu after": lambda inner: _functional(inner, layers.ReLU(name="after")),
    "softmax after": lambda inner: keras.Sequential([layers.Input((8, 8, 3)), inner, layers.Softmax()]),
    "on its tensors": lambda inner: keras.Model(inner.inputs[0], layers.Dense(3)(inner.output)),
    "rescaling before": lambda inner: _functional(inner, before=layers.Rescaling(0.5)),
    "convolution before": lambda inner: _functional(inner, before=layers.Conv2D(3, 1, activation="relu")),
    "called twice": _siamese,
    "cut at a batch norm": _cut("norm"),
    "cut at a relu": _cut("rectified"),
    "cut at a convolution": _cut("second"),
    "cut at a pooling": _cut("pool"),
}
