"""Sweep of saved models: task x family x change to its layers x quantized or not, saved, copied, pickled.

Each model is changed after it was built, then loaded in a process of its own, copied and pickled; each of these must
have the same outputs, the same layers that train, and the same arguments of every layer. Each result is a line of
JSON, written as it is known; cases whose result is there are not run again.

    python -m tests.sweeps.saved_models results.jsonl            # an hour; TF_USE_LEGACY_KERAS=1 for tf_keras
    python -m tests.sweeps.saved_models results.jsonl --only retinanet
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras, policy_of, rename

layers = keras.layers
SIZE = 64
IMAGES = np.random.default_rng(0).uniform(0, 1, (2, SIZE, SIZE, 3)).astype("float32")

FAMILIES: dict[str, Any] = {
    "resnet": rb.ResNetSpec(block="basic", depths=(1, 1, 1, 1), widths=(8, 16, 24, 32), stem_width=8, attention="se"),
    "regnet": "regnety_002",
    "darknet": "cs3darknet_s",
    "mobilenet": "mobilenetv3_small_050",
}


def backbone_of(family: str) -> Any:
    """A new backbone of that family, 64 x 64 pixels."""
    return rb.create_backbone(FAMILIES[family], input_shape=(SIZE, SIZE, 3), drop_path_rate=0.25)


def _task(name: str, *arguments: Any, **keywords: Any) -> Any:
    return lambda backbone: getattr(rb.adapters.keras_cv, name)(backbone, 3, *arguments, **keywords)


TASKS: dict[str, Any] = {
    "backbone": lambda backbone: backbone,
    "wrapped backbone": lambda backbone: rb.from_model(
        keras.Model(backbone.input, backbone.output), backbone.pyramid_level_inputs
    ),
    "image classifier": _task("image_classifier"),
    "retinanet": _task("retinanet", "xywh", head_depth=1),
    "yolo_v8": _task("yolo_v8_detector", "xywh", fpn_depth=1),
    "deeplab": _task("deeplab_v3_plus"),
    "segformer": _task("segformer", projection_filters=8),
}


def own_layers(model: Any) -> list[Any]:
    """The layers of a model and of those in it, in its order, without the model and its inputs."""
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, keras.Model | layers.InputLayer)
    ]


def _of(model: Any, kind: Any) -> list[Any]:
    return [layer for layer in own_layers(model) if isinstance(layer, kind)]


def _convolutions(model: Any) -> list[Any]:
    return [layer for layer in _of(model, layers.Conv2D) if not isinstance(layer, layers.DepthwiseConv2D)]


def _freeze_all(model):
    model.trainable = False


def _freeze_every_third(model):
    for layer in own_layers(model)[::3]:
        layer.trainable = False


def _thaw_one(model):
    model.trainable = False
    _convolutions(model)[-1].trainable = True


def _freeze_batch_norms(model):
    for layer in _of(model, layers.BatchNormalization):
        layer.trainable = False


def _activation(model):
    for layer in own_layers(model):
        if getattr(layer, "activation", None) in (keras.activations.relu, keras.activations.swish):
            layer.activation = keras.activations.elu


def _batch_norm(model):
    for layer in _of(model, layers.BatchNormalization):
        layer.epsilon, layer.momentum = 0.3, 0.5


def _regularize(model):
    for layer in _convolutions(model):
        layer.kernel_regularizer = keras.regularizers.L2(0.125)


def _regularize_all_kinds(model):
    for layer in _of(model, layers.DepthwiseConv2D):
        layer.depthwise_regularizer = keras.regularizers.L2(0.25)
    for layer in _of(model, layers.BatchNormalization):
        layer.gamma_regularizer, layer.beta_regularizer = keras.regularizers.L1(0.25), keras.regularizers.L2(0.5)
    for layer in _convolutions(model)[:2]:
        layer.activity_regularizer = keras.regularizers.L2(0.125)


def _constrain(model):
    for layer in _convolutions(model):
        layer.kernel_constraint = keras.constraints.MaxNorm(0.5)


def _policy(model):
    for layer in _of(model, layers.Activation):
        _set_policy(layer, "float64" if IS_KERAS_3 else "mixed_float16")


def _geometry(model):
    """Numbers a layer reads when it is called."""
    for layer in _convolutions(model):
        if layer.kernel_size == (3, 3) and tuple(layer.strides) == (1, 1) and layer.padding == "same":
            layer.dilation_rate = (2, 2)


def _without_scale(model):
    for layer in _of(model, layers.BatchNormalization):
        layer.scale = False


def _rename(model):
    for layer in _convolutions(model):  # no level ends in one
        rename(layer, f"my_{layer.name}")


def _variables(model):
    if IS_KERAS_3:  # tf_keras' variables are told when they are made
        for layer in _convolutions(model)[:3]:
            layer.kernel.regularizer = keras.regularizers.L1(0.25)
        _of(model, layers.BatchNormalization)[0].gamma.trainable = False


def _everything(model):
    for change in (_activation, _batch_norm, _regularize, _regularize_all_kinds, _constrain, _geometry, _rename):
        change(model)
    _freeze_every_third(model)


def _set_policy(layer, name):
    if IS_KERAS_3:
        layer.dtype_policy = name
    else:
        layer._set_dtype_policy(keras.mixed_precision.Policy(name))


CHANGES: dict[str, Any] = {
    "nothing": lambda model: None,
    "freeze all": _freeze_all,
    "freeze every third": _freeze_every_third,
    "thaw one": _thaw_one,
    "freeze batch norms": _freeze_batch_norms,
    "activation": _activation,
    "batch norm": _batch_norm,
    "regularize": _regularize,
    "regularize all kinds": _regularize_all_kinds,
    "constrain": _constrain,
    "policy": _policy,
    "geometry": _geometry,
    "without scale": _without_scale,
    "rename": _rename,
    "variables": _variables,
    "everything": _everything,
}
#: Those of the sweep; tests make all of them on one backbone.
SWEPT = ("nothing", "freeze all", "thaw one", "everything")


def facts(model: Any) -> dict[str, Any]:
    """What a copy of a model has too, as JSON-able values."""
    outputs = model(IMAGES, training=False)
    outputs = outputs if isinstance(outputs, dict) else {"output": outputs}
    every = [layer for layer in model._flatten_layers() if not isinstance(layer, layers.InputLayer)]
    return {
        "outputs": {name: np.asarray(value, np.float64).tolist() for name, value in outputs.items()},
        "trainable": [layer.trainable for layer in every],
        "trained": [list(weight.shape) for weight in model.trainable_weights],
        "weights": [weight.trainable for weight in model.weights] if IS_KERAS_3 else [],
        "arguments": [_arguments(layer) for layer in own_layers(model)],
        "name": model.name,
    }


def _arguments(layer: Any) -> dict[str, Any]:
    kept = ("epsilon", "momentum", "scale", "strides", "dilation_rate", "padding", "rate")
    found = {key: getattr(layer, key) for key in kept if hasattr(layer, key)}
    activation = getattr(layer, "activation", None)
    found |= {"activation": getattr(activation, "__name__", str(activation)), "policy": policy_of(layer).name}
    for key in (key for key in vars(layer) if key.endswith(("_regularizer", "_constraint"))):
        penalty = getattr(layer, key)
        if hasattr(penalty, "get_config"):
            found[key] = [type(penalty).__name__, str(penalty.get_config())]
    found["name"] = layer.name if layer.name.startswith("my_") else None  # others may be counted up
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What of :func:`facts` differs, as JSON has it."""
    found, expected = json.loads(json.dumps(found)), json.loads(json.dumps(expected))
    return [key for key in expected if found[key] != expected[key]]


def changed_model(task: str, family: str, change: str, quantized: bool) -> Any:
    """A model, changed before and after the task is built around its backbone."""
    keras.utils.set_random_seed(0)
    backbone = backbone_of(family)
    if change == "everything":
        _activation(backbone)
    model = TASKS[task](backbone)
    CHANGES[change](model)
    if quantized:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rb.quantize_post_training(model, calibration_data=IMAGES)
    return model


def run(task: str, family: str, quantized: bool) -> list[dict[str, Any]]:
    """All swept changes of one model; a result each."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number, change in enumerate(SWEPT):
            model = changed_model(task, family, change, quantized)
            expected = facts(model)
            path = Path(folder) / f"{number}.keras"
            rb.export_model(model, path) if number % 2 else model.save(path)
            (path.with_suffix(".json")).write_text(json.dumps(expected))
            copies = {"copied": copy.deepcopy(model), "pickled": pickle.loads(pickle.dumps(model))}
            found = {how: differences(facts(one), expected) for how, one in copies.items()}
            case = {"task": task, "family": family, "change": change, "quantized": quantized}
            results.append({"case": case, "differences": found})
        child = [sys.executable, "-m", __spec__.name if __spec__ else "tests.sweeps.saved_models", "--load", folder]
        done = subprocess.run(child, capture_output=True, text=True, check=False, env=os.environ)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        for number, result in enumerate(results):
            result["differences"]["loaded"] = json.loads((Path(folder) / f"{number}.found").read_text())
    return results


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--load", type=Path)
    arguments = parser.parse_args()
    if arguments.load:
        for path in arguments.load.glob("*.keras"):
            expected = json.loads(path.with_suffix(".json").read_text())
            path.with_suffix(".found").write_text(json.dumps(differences(facts(rb.load_model(path)), expected)))
        return
    lines = arguments.results.read_text().splitlines() if arguments.results.exists() else []
    done = {json.dumps(json.loads(line)["group"]) for line in lines}
    failures: Counter[str] = Counter()
    with arguments.results.open("a") as file:
        for group in [[t, f, q] for q in (False, True) for t in TASKS for f in FAMILIES]:
            if json.dumps(group) in done or arguments.only not in " ".join(map(str, group)):
                continue
            try:
                results = run(*group)
            except Exception as error:
                results = [{"case": group, "differences": {"failed": [f"{type(error).__name__}: {error}"]}}]
            for result in results:
                wrong = {how: keys for how, keys in result["differences"].items() if keys}
                failures["failed" if wrong else "passed"] += 1
                if wrong:
                    print(result["case"], wrong, flush=True)
            file.write(json.dumps({"group": group, "results": results}) + "\n")
            file.flush()
            keras.backend.clear_session()
    print(dict(failures))


if __name__ == "__main__":
    main()
