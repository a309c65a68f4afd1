"""Sweep of what fuses: activation x what stands before it x what reads it, for TensorRT and for both targets.

A case is a small network. It passes if its file passes its report with every kernel found, if an ONNX file for TensorRT
has no error by our own check, and if all layers that the scheme quantizes are in integers there.

    python -m tests.sweeps.fusions results.jsonl          # minutes; TF_USE_LEGACY_KERAS=1 for tf_keras
    python -m tests.sweeps.fusions results.jsonl --only silu/add/conv
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import resnet_backbones as rb
from resnet_backbones.keras_compat import activation_function, keras

layers = keras.layers
SIZE = (8, 6, 4)
NAMED = (
    *("linear", "relu", "relu6", "silu", "sigmoid", "tanh", "hard_sigmoid", "hard_swish", "elu", "selu", "gelu"),
    *("leaky_relu", "softplus"),
)
ACTIVATIONS: dict[str, Callable[[], Any]] = {
    **{name: lambda name=name: layers.Activation(activation_function(name)) for name in NAMED},
    "relu to 4": lambda: layers.ReLU(4.0),
    "leaky layer": lambda: layers.LeakyReLU(),
    "elu layer": lambda: layers.ELU(),
    "prelu": lambda: layers.PReLU(alpha_initializer="random_uniform"),
    "prelu of channels": lambda: layers.PReLU(alpha_initializer="random_uniform", shared_axes=[1, 2]),
}


def _conv(x: Any, filters: int = 4, size: int = 3) -> Any:
    return layers.BatchNormalization()(layers.Conv2D(filters, size, padding="same", use_bias=False)(x))


def _stem(x: Any) -> Any:
    return layers.ReLU()(_conv(x))


def _shuffled(x: Any) -> Any:
    height, width, count = x.shape[1:]
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((height, width, 2, count // 2))(x))
    return layers.Reshape((height, width, count))(x)


def _head(x: Any) -> Any:
    return layers.Dense(3)(layers.Dense(5, activation="relu")(x))


BEFORE: dict[str, Callable[[Any], Any]] = {
    "conv": lambda x: _conv(_stem(x)),
    "add": lambda x: layers.Add()([x := _stem(x), _conv(x)]),
    "concat": lambda x: layers.Concatenate()([x := _stem(x), _conv(x)]),
}
AFTER: dict[str, Callable[[Any], Any]] = {
    "conv": lambda x: layers.Conv2D(3, 1)(_conv(x)),
    "dense": _head,
    "flatten-dense": lambda x: _head(layers.Flatten()(x)),
    "pool": lambda x: layers.MaxPooling2D(2)(x),
    "none": lambda x: x,
    "mean-dense": lambda x: _head(layers.GlobalAveragePooling2D()(x)),
    "pool-conv": lambda x: _stem(layers.AveragePooling2D(2)(x)),
    "reshape-dense": lambda x: _head(layers.Reshape((-1,))(x)),
    "tokens-dense": lambda x: _head(layers.Reshape((-1, x.shape[-1]))(x)),
    "shuffle-conv": lambda x: layers.Conv2D(3, 1)(_conv(_shuffled(x))),
    "permute-conv": lambda x: layers.Conv2D(3, 1)(_conv(layers.Permute((2, 1, 3))(x))),
    "channels-permute-conv": lambda x: layers.Conv2D(3, 1)(_conv(layers.Permute((3, 1, 2))(x))),
    "permute": lambda x: layers.Permute((3, 1, 2))(x),
    "flatten": lambda x: layers.Flatten()(x),
    "flatten-activated-dense": lambda x: _head(layers.ReLU()(layers.Flatten()(x))),
    "permute-activated-dense": lambda x: _head(layers.ReLU()(layers.Permute((2, 1, 3))(x))),
}
#: Scheme and target -> scheme, suffix, target.
WAYS = {
    "gpu tensorrt": ("gpu_int8", ".onnx", "tensorrt"),
    "portable tensorrt": ("portable_int8", ".onnx", "tensorrt"),
    "portable onnxruntime": ("portable_int8", ".onnx", "onnxruntime"),
    "portable litert": ("portable_int8", ".tflite", None),
}


def network(activation: str, before: str, after: str) -> Any:
    """The model of a case, with batch norms and biases as after training."""
    seed = list(ACTIVATIONS).index(activation)
    keras.utils.set_random_seed(seed)
    image = layers.Input(SIZE)
    model = keras.Model(image, AFTER[after](ACTIVATIONS[activation]()(BEFORE[before](image))))
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            for weight, low, high in ((layer.gamma, 0.5, 1.5), (layer.beta, -0.5, 0.5), (layer.moving_mean, -0.2, 0.2)):
                weight.assign(random.uniform(low, high, weight.shape))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(0, 0.1, layer.bias.shape))
    return model


def attempt(activation: str, before: str, after: str, ways: Sequence[str] = tuple(WAYS)) -> dict[str, list[str]]:
    """Quantizes and exports the network of a case.

    Returns:
        Way -> what is wrong with its file; empty if nothing is.
    """
    images = np.random.default_rng(0).normal(0, 1, (8, *SIZE)).astype("float32")
    found: dict[str, list[str]] = {}
    model, quantized_by = None, None
    for way in ways:
        scheme, suffix, target = WAYS[way]
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers that stay in float, which the file must say too
            if quantized_by != scheme:
                model, quantized_by = network(activation, before, after), scheme
                rb.quantize_post_training(model, scheme, calibration_data=images)
            try:
                report = rb.export_model(
                    model, Path(folder) / f"it{suffix}", parity_data=images, **({"target": target} if target else {})
                )
            except Exception as error:
                found[way] = [f"export raised {type(error).__name__}: {error}"]
                continue
            found[way] = list(report.failures)
            if target == "tensorrt":
                checked = rb.export.tensorrt.check(report.path)
                found[way] += [f"{one.rule} {one.node}: {one.message}" for one in checked.of("error")]
                found[way] += [f"warning {one.rule} {one.node}: {one.message}" for one in checked.of("warning")]
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("results", type=Path, help="file of JSON lines")
    parser.add_argument("--only", nargs="*", help="cases, as activation/before/after")
    parser.add_argument("--part", default="1/1", help="i/n: the i-th of n parts")
    arguments = parser.parse_args()
    cases = [f"{a}/{b}/{c}" for a in ACTIVATIONS for b in BEFORE for c in AFTER]
    part, parts = map(int, arguments.part.split("/"))
    with arguments.results.open("a+") as file:
        file.seek(0)
        done = {json.loads(line)["case"] for line in file}
        for case in arguments.only or [one for one in cases[part - 1 :: parts] if one not in done]:
            result = attempt(*case.split("/"))
            file.write(json.dumps({"case": case, "found": result}) + "\n")
            file.flush()
            for way, problems in result.items():
                for problem in problems:
                    print(f"{case:40} {way:20} {problem[:300]}", flush=True)
            keras.backend.clear_session()


if __name__ == "__main__":
    main()
