"""What an old version wrote and this one must read: the same models and measurements for both sides."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from tests.golden.models import seeded

layers = keras.layers
FIXTURES = Path(__file__).parent / "fixtures"
KERAS = "keras" if IS_KERAS_3 else "tf_keras"
SIZE, CLASSES = 32, ["ant", "bee", "cat", "dog"]
IMAGES = np.random.default_rng(0).uniform(0, 255, (8, SIZE, SIZE, 3)).astype("float32")
DETECTOR_IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
LABELS = np.arange(8) % len(CLASSES)

PUBLIC = (
    "resnet_backbones", "resnet_backbones.adapters", "resnet_backbones.adapters.keras_cv",
    "resnet_backbones.export", "resnet_backbones.export.tensorrt", "resnet_backbones.quantization",
    "resnet_backbones.runtime", "resnet_backbones.weights",
)  # fmt: skip

_NARROW: dict[str, Any] = {"widths": (6, 8, 8, 8), "stem_width": 6, "preprocessing": rb.Preprocessing(1 / 127.5, -1.0)}


def classifier() -> Any:
    """A classifier of some two thousand weights."""
    spec = rb.ResNetSpec(block="basic", depths=(1, 1), **{**_NARROW, "widths": (6, 8)})
    backbone = rb.create_backbone(spec, input_shape=(SIZE, SIZE, 3))
    return seeded(rb.adapters.keras_cv.image_classifier(backbone, num_classes=len(CLASSES)))


def _backbone() -> Any:
    spec = rb.ResNetSpec(block="basic", depths=(1, 1, 1, 1), **_NARROW)
    return rb.create_backbone(spec, input_shape=(64, 64, 3))


def retinanet() -> Any:
    """Heads of one convolution; the smallest that KerasCV makes."""
    return seeded(rb.adapters.keras_cv.retinanet(_backbone(), 3, bounding_box_format="xywh", head_depth=1))


def yolo_v8() -> Any:
    """A pyramid of the least depth."""
    return seeded(rb.adapters.keras_cv.yolo_v8_detector(_backbone(), 3, bounding_box_format="xywh", fpn_depth=1))


DETECTORS = {"retinanet": retinanet, "yolo_v8": yolo_v8}


def trained(seed: int = 0) -> Any:
    """A compiled, quantized model of a few layers, for ``TrainingBackup``."""
    keras.utils.set_random_seed(seed)
    image = layers.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 3, strides=4, use_bias=False, name="conv")(image)
    x = layers.Activation("relu", name="act")(layers.BatchNormalization(name="norm")(x))
    x = layers.Dense(len(CLASSES), activation="softmax", name="head")(layers.GlobalAveragePooling2D(name="pool")(x))
    model = keras.Model(image, x, name="trained")
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return rb.quantize_aware(model, calibration_data=IMAGES / 255)


class StopAt(keras.callbacks.Callback):
    """Ends a training as a killed process would, and counts the steps before."""

    def __init__(self, step: int | None = None) -> None:
        super().__init__()
        self.step, self.done = step, 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += bool(logs)
        if self.done == self.step:
            raise KeyboardInterrupt


def train_backed_up(model: Any, folder: Path, stop: StopAt) -> None:
    """Two epochs of four steps, backed up at every step."""
    backup = rb.TrainingBackup(folder, save_freq=1, delete_checkpoint=False)
    model.fit(IMAGES / 255, LABELS, batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[stop, backup])


def values(model: Any) -> list[np.ndarray]:
    """Of every weight, statistic, range and switch."""
    return [variable.numpy() for variable in model.variables]


def outputs(model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """A model's outputs by name."""
    found = model(images, training=False)
    named = found if isinstance(found, dict) else {"output": found}
    return {name: np.asarray(value) for name, value in sorted(named.items())}


def configuration(path: Path) -> str:
    """What a ``.keras`` file says its model is."""
    with zipfile.ZipFile(path) as archive:
        return archive.read("config.json").decode()


def ranges(model: Any) -> list[list[float]]:
    """Least, largest, batches seen and whether still observing, of each quantizer in order."""
    return [[float(one.numpy()) for one in _range(each)] for each in rb.quantization.quantizers_of(model)]


def set_ranges(model: Any, found: list[list[float]]) -> None:
    """Gives every quantizer what :func:`ranges` read."""
    for quantizer, numbers in zip(rb.quantization.quantizers_of(model), found, strict=True):
        for variable, number in zip(_range(quantizer), numbers, strict=True):
            variable.assign(number)


def _range(quantizer: Any) -> tuple[Any, ...]:
    return quantizer.range_min, quantizer.range_max, quantizer.batches_seen, quantizer.observing


# Keys under which the names are of the model or the machine, and not of this library.
_FREE = ("operators", "float_operators", "spec", "of")


def keys(data: Any, prefix: str = "") -> set[str]:
    """Every key of JSON, with those round it: ``"backbones[].name"``."""
    if isinstance(data, list):
        return set().union(*(keys(one, f"{prefix}[]") for one in data))
    if not isinstance(data, dict):
        return set()
    here = {f"{prefix}.{key}".strip(".") for key in data}
    inner = (keys(value, f"{prefix}.{key}".strip(".")) for key, value in data.items() if key not in _FREE)
    return here.union(*inner)


# Name -> what follows ``resnet-backbones``; the files are those of `fixtures/<keras>/`, `{out}` is a new folder.
WITH_JSON = {
    "list": ["list", "resnet18"],
    "info": ["info", "resnet18"],
    "doctor": ["doctor"],
    "compare": ["compare", "resnet20", "--size", "32", "--runs", "1", "--budget-ms", "1000000"],
    "convert": ["convert", "{out}/resnet20.weights.h5", "{out}/resnet20.npz", "--name", "resnet20"],
    "export": [
        "export", "classifier_int8.keras", "{out}/a.tflite", "--parity-data", "{out}/images.npy", "--layers",
        "--latency",
    ],
    "check": ["check", "{out}/tensorrt.onnx"],
    "benchmark": ["benchmark", "classifier.tflite", "--runs", "1"],
    "predict": ["predict", "classifier.tflite", "{out}/street.png", "--out", "{out}/found"],
}  # fmt: skip
CODES = {
    "version": (["--version"], 0),
    "unknown option": (["list", "--jsn"], 2),
    "unknown command": (["lst"], 2),
    "no backbone matches": (["list", "nonsense*"], 1),
    "unknown backbone": (["info", "resnet8000"], 1),
    "weights do not fit": (["convert", "{out}/resnet20.weights.h5", "{out}/x.npz", "--name", "resnet32"], 1),
    "no such model": (["export", "{out}/nothing.keras", "{out}/x.tflite"], 1),
    "unknown report": (["export", "classifier.keras", "{out}/x.tflite", "--report", "x.pdf"], 2),
    "wrong batch": (["export", "classifier.keras", "{out}/x.tflite", "--batch", "some"], 2),
    "int8 of a float model": (["export", "classifier.keras", "{out}/x.tflite", "--precision", "int8"], 1),
    "breaks TensorRT's rules": (["check", "classifier.onnx"], 1),
    "nothing to check": (["check", "{out}/nothing.onnx"], 1),
    "nothing to time": (["benchmark", "{out}/nothing.tflite"], 1),
    "no such picture": (["predict", "classifier.tflite", "{out}/nothing.png"], 1),
}  # fmt: skip


def prepare(out: Path) -> None:
    """The files that the command lines name."""
    from PIL import Image

    np.save(out / "images.npy", IMAGES)
    Image.fromarray(IMAGES[0].astype(np.uint8)).save(out / "street.png")
    keras.utils.set_random_seed(0)
    rb.weights.save(rb.create_backbone("resnet20", input_shape=(SIZE, SIZE, 3)), out / "resnet20.weights.h5")
    model = rb.quantize_post_training(classifier(), "gpu_int8", calibration_data=IMAGES)
    rb.export_model(model, out / "tensorrt.onnx")


def run(words: list[str], out: Path) -> tuple[int, Any]:
    """Runs a command line on the fixtures; its exit code and, of ``--json``, what it printed."""
    from tests.support.processes import run_command

    result = run_command(*(word.replace("{out}", str(out)) for word in words))
    return result.exit_code, json.loads(result.stdout) if "--json" in words else None
