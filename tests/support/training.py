"""A residual classifier of a few hundred weights and real digits, for tests that train many times."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from resnet_backbones.keras_compat import keras
from resnet_backbones.layers import BatchNormalization

layers = keras.layers


def digits(count=None):
    """Images (count, 8, 8, 1), 0 to 1, and classes, int64; 1,797 if no count is named."""
    data = load_digits()
    return (data.images[:count, :, :, None] / 16.0).astype("float32"), data.target[:count]


def tiny_classifier(*, filters=6, dropout=0.0, optimizer="sgd", **compile_arguments):
    """Convolution, batch norm, ReLU; a residual block; a dense head; compiled."""
    image = layers.Input((8, 8, 1))
    x = layers.Activation("relu", name="stem_act")(_conv(image, filters, "stem"))
    x = layers.Activation("relu", name="block_act")(layers.Add(name="add")([x, _conv(x, filters, "block")]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = layers.Dropout(dropout, seed=3, name="dropout")(x)
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="head")(x), name="tiny")
    model.compile(optimizer, "sparse_categorical_crossentropy", **compile_arguments)
    return model


def _conv(x, filters, name):
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return BatchNormalization(name=f"{name}_bn", momentum=0.9)(x)


def fit(data, model, *callbacks, **arguments):
    """Trains on images and labels without a word. The model; ``model.history`` says how it went."""
    model.fit(*data, verbose=0, callbacks=list(callbacks), **arguments)
    return model


def every_value(model):
    """Weights, statistics, ranges, switches, counters, then the optimizer's variables, as arrays."""
    optimizer = model.optimizer.variables
    variables = [*model.variables, *(optimizer() if callable(optimizer) else optimizer)]
    return [np.array(variable.numpy()) for variable in variables]


def prune(model, share=0.5):
    """Sets the smallest values of every kernel to zero, a share of each."""
    for variable in model.trainable_variables:
        if len(variable.shape) >= 2:
            values = variable.numpy()
            bound = np.quantile(np.abs(values), share)
            variable.assign(np.where(np.abs(values) <= bound, 0, values))
    return model


def kernels(model):
    """Kernels of convolutions and dense layers, by the layer's name, as arrays."""
    weighted = (layers.Conv2D, layers.Dense)
    return {layer.name: np.array(layer.kernel) for layer in model._flatten_layers() if isinstance(layer, weighted)}


def int8_kernels(path):
    """The int8 kernels of a LiteRT file's convolutions and dense layers, in order, laid out as Keras'."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    found = []
    for operation in interpreter._get_ops_details():
        if operation["op_name"] in ("CONV_2D", "FULLY_CONNECTED"):
            kernel = interpreter.get_tensor(operation["inputs"][1])
            assert kernel.dtype == np.int8
            found.append(np.moveaxis(kernel, 0, -1))
    return found
