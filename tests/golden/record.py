"""The golden record: what the files of about 20 small models hold, so that a change of any of them is seen.

Each model is exported in every format, and quantized by every scheme for every target. ``record.json`` was first
written by version 0.1.0. What differs from it since is listed, with the reason, in ``CHANGES.md``.

    python -m tests.golden.record --check                    # a few minutes; TF_USE_LEGACY_KERAS=1 for tf_keras
    python -m tests.golden.record --check --only 'basic*'    # names of the form model/file, * for anything
    python -m tests.golden.record --only 'basic/*.onnx'      # writes these anew: then add a line to CHANGES.md
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import absl.logging
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from tests.golden import measure
from tests.golden.models import BUILD, IMAGES, seeded, snapped

RECORD = Path(__file__).with_name("record.json")
KERAS = "keras" if IS_KERAS_3 else "tf_keras"

# Scheme -> name of a file -> how it is exported; with "only", for these models alone.
_TENSORRT, _RUNTIME = {"target": "tensorrt"}, {"target": "onnxruntime"}
_SOME = ("basic", "mobilenet_v3", "nested", "subclassed")
_DETECTORS = ("retinanet", "yolo_v8")
FILES: dict[str | None, dict[str, dict[str, Any]]] = {
    None: {
        "float32.tflite": {},
        "float32.onnx": {},
        "savedmodel": {},
        "float.keras": {},
        "float16.tflite": {"precision": "float16", "only": _SOME},
        "float16.onnx": {"precision": "float16", "only": _SOME},
        "dynamic_range.tflite": {"precision": "dynamic_range", "only": _SOME},
    },
    "edge_int8": {
        "edge_int8.tflite": {},
        "edge_int8.onnxruntime.onnx": _RUNTIME,
        "edge_int8.keras": {},
        "edge_int8.any_batch.tflite": {"batch": None, "only": _SOME},
        "edge_int8.nhwc.onnx": {**_RUNTIME, "layout": "NHWC", "only": _SOME},
        "edge_int8.preprocessing.tflite": {"preprocessing": True, "only": _SOME},
        "edge_int8.postprocessing.tflite": {"postprocessing": True, "only": _DETECTORS},
    },
    "portable_int8": {
        "portable_int8.tflite": {},
        "portable_int8.tensorrt.onnx": _TENSORRT,
        "portable_int8.onnxruntime.onnx": _RUNTIME,
    },
    "gpu_int8": {
        "gpu_int8.tensorrt.onnx": _TENSORRT,
        "gpu_int8.postprocessing.onnx": {**_TENSORRT, "postprocessing": True, "only": _DETECTORS},
    },
    "edge_int16x8": {"edge_int16x8.tflite": {}},
}
NAMES = [
    f"{model}/{file}"
    for model in BUILD
    for files in FILES.values()
    for file, options in files.items()
    if model in options.get("only", BUILD)
]


def chosen(patterns: list[str]) -> list[str]:
    """Names of the form model/file that match a pattern, or begin with one and a slash."""
    return [n for n in NAMES if any(fnmatch.fnmatch(n, p) or n.startswith(f"{p}/") for p in patterns)]


def measurements(names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Builds, quantizes and exports; each file's name and what is in it, as it ends."""
    for model_name in dict.fromkeys(name.partition("/")[0] for name in names):
        for scheme, files in FILES.items():
            todo = {file: options for file, options in files.items() if f"{model_name}/{file}" in names}
            if todo:
                keras.backend.clear_session()
                keras.utils.set_random_seed(0)
                model = seeded(BUILD[model_name]())
                try:
                    if scheme is not None:
                        snapped(rb.quantize_post_training(model, scheme, calibration_data=IMAGES))
                    refused = None
                except ValueError as error:  # what a scheme cannot express is refused before the export
                    refused = {"refused": type(error).__name__}
                for file, options in todo.items():
                    yield f"{model_name}/{file}", refused or _measured(model, file, options)


def _measured(model: Any, file: str, options: dict[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in options.items() if key != "only"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        try:
            rb.export_model(model, path, **options)
        except Exception as error:  # ours or a converter's: other words for the same refusal are no other file
            return {"refused": type(error).__name__}
        found = measure.constants_and_operators(path) if path.suffix in (".tflite", ".onnx") else {}
        return {**found, "outputs": measure.summary(_outputs(path))}


def _outputs(path: Path) -> dict[str, np.ndarray]:
    images = IMAGES[:2]
    if path.suffix in (".tflite", ".onnx"):
        return rb.runtime.load(path, num_threads=1).raw(images)
    if path.suffix == ".keras":
        result = rb.load_model(path, compile=False)(images, training=False)
    else:
        signature = tf.saved_model.load(str(path)).signatures["serving_default"]
        (name,) = signature.structured_input_signature[1]
        result = signature(**{name: tf.constant(images)})
    named = result if isinstance(result, dict) else {"output": result}
    return {name: np.asarray(values) for name, values in sorted(named.items())}


def read() -> dict[str, dict[str, Any]]:
    """Keras -> model/file -> what was measured."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def write(record: dict[str, dict[str, Any]]) -> None:
    """A line per file, in the order of ``NAMES``."""
    parts = []
    for library in sorted(record):
        ordered = sorted(record[library], key=NAMES.index)
        lines = (f" {json.dumps(name)}: {json.dumps(record[library][name])}" for name in ordered)
        parts.append(f"{json.dumps(library)}: {{\n" + ",\n".join(lines) + "\n}")
    temporary = RECORD.with_suffix(".part")
    temporary.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    temporary.replace(RECORD)


def check(names: list[str], show: Callable[[str], object] = print) -> list[str]:
    """Measures, and compares with the record.

    Args:
        names: of the form model/file.
        show: is given each file's line as it ends.

    Returns:
        One line a difference: file, field, what it was and what it is.
    """
    recorded, found = read().get(KERAS, {}), []
    for name, measured in measurements(names):
        quantized = re.search("int|dynamic", name) is not None
        differing = measure.differences(recorded.get(name, {}), measured, quantized=quantized)
        lines = [f"{name}: {field}: {change}" for field, change in differing.items()]
        show("\n".join(lines) or f"{name}: as recorded")
        found += lines
    return found


def main() -> int:
    """Records, or with ``--check`` compares: 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the record; exit code 1 on a difference")
    parser.add_argument("--only", action="append", metavar="MODEL or MODEL/FILE", help="a name or pattern; repeatable")
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    absl.logging.set_verbosity(absl.logging.ERROR)
    names, start = chosen(arguments.only or ["*"]), time.monotonic()
    if not names:
        parser.error(f"nothing is called so; models are {', '.join(BUILD)}.")
    if arguments.check:
        differing = check(names, tqdm.write)
        print(f"{len(names)} files, {len(differing)} differences, {time.monotonic() - start:.0f} s")
        return bool(differing)
    for name, measured in measurements(names):
        record = read()
        record.setdefault(KERAS, {})[name] = measured
        write(record)
        tqdm.write(f"{name}: {measured.get('refused', 'recorded')} ({time.monotonic() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
