"""Files of models of mixed precision hold float32, and so does what their reports expect of them."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import global_policy, keras
from tests.support.nets import images

layers = keras.layers
WAYS = {
    "litert": ("edge_int8", ".tflite", {}),
    "litert, 16 bits": ("edge_int16x8", ".tflite", {}),
    "onnxruntime": ("edge_int8", ".onnx", {"target": "onnxruntime"}),
    "tensorrt": ("portable_int8", ".onnx", {"target": "tensorrt"}),
}
CASES = [("mixed_bfloat16", way) for way in WAYS] + [("mixed_float16", "litert"), ("mixed_float16", "tensorrt")]
WEIGHTED = {
    "conv": lambda **kw: layers.Conv2D(6, 3, **kw),
    "transpose": lambda **kw: layers.Conv2DTranspose(6, 3, 2, **kw),
    "separable": lambda **kw: layers.SeparableConv2D(6, 3, **kw),
    "depthwise": lambda **kw: layers.DepthwiseConv2D(3, **kw),
    "pool": lambda **kw: layers.MaxPooling2D(2),  # a batch norm that folds into nothing
    "dense": lambda **kw: layers.Dense(5, **kw),
}
NORMS = {
    "norm": {},
    "no scale": {"scale": False},
    "no center": {"center": False},
    "in float32": {"dtype": "float32"},
}


def network(policy):
    """Each layer with two of the batch norms behind it, activated or not, with a bias or without."""
    keras.utils.set_random_seed(0)
    with global_policy(policy):
        image = layers.Input((8, 8, 2))
        x = layers.Conv2D(4, 3, activation="relu")(image)
        outputs = {}
        for number, (kind, make) in enumerate(WEIGHTED.items()):
            for turn, norm in enumerate(("norm", list(NORMS)[1 + number % 3])):
                given = {} if kind == "pool" else {"use_bias": (number + turn) % 2 == 0}
                y = make(**given)(layers.Flatten()(x) if kind == "dense" else x)
                y = layers.BatchNormalization(**NORMS[norm])(y)
                outputs[f"{kind}_{turn}"] = layers.ReLU()(y) if number % 2 == turn else y
        model = keras.Model(image, outputs)
    random = np.random.default_rng(0)
    for variable in (weight for layer in model.layers for weight in layer.weights):
        name = variable.name.split("/")[-1].removesuffix(":0")
        low, high = {"gamma": (0.5, 1.5), "moving_variance": (0.3, 1.2)}.get(name, (-0.4, 0.4))
        if "kernel" not in name:
            variable.assign(random.uniform(low, high, variable.shape))
    return model


@pytest.mark.parametrize(("policy", "way"), CASES)
def test_a_right_file_passes_whatever_the_policy(policy, way, tmp_path):
    scheme, suffix, options = WAYS[way]
    data = images(16, 8, 8, 2)
    model = network(policy)
    rb.quantize_post_training(model, scheme, calibration_data=data)
    report = rb.export_model(model, tmp_path / f"m{suffix}", parity_data=data, **options)
    assert report.passed, report.failures
    assert report.kernels.equal == report.kernels.compared > 2 * len(WEIGHTED)
