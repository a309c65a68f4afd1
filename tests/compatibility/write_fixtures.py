"""Writes what version 0.1.0 writes, for later versions to read. Written by version 0.1.0, and by no other.

A later version's fixtures go to a folder of their own beside these; those of an older one are never overwritten.

    PYTHONPATH=<a checkout of 0.1.0>:<this checkout> python -m tests.compatibility.write_fixtures 0.1.0
    ... and again with TF_USE_LEGACY_KERAS=1
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from safetensors import safe_open

import resnet_backbones as rb
from tests.compatibility import cases
from tests.golden import measure


def write(folder: Path) -> None:
    """Writes one Keras' fixtures to a new folder."""
    folder.mkdir(parents=True)
    facts: dict[str, Any] = {"outputs": {}, "ranges": {}, "metadata": {}}

    model = cases.classifier()
    model.save(folder / "classifier.keras")
    facts["outputs"]["classifier"] = measure.summary(cases.outputs(model, cases.IMAGES))
    with tempfile.TemporaryDirectory() as other:
        rb.weights.save(model, Path(other) / "x.safetensors")
        with safe_open(Path(other) / "x.safetensors", "numpy") as file:
            facts["safetensors"] = {name: list(file.get_tensor(name).shape) for name in file.keys()}  # noqa: SIM118
            facts["safetensors_metadata"] = file.metadata()
    rb.quantize_post_training(model, calibration_data=cases.IMAGES)
    model.save(folder / "classifier_int8.keras")
    facts["outputs"]["classifier_int8"] = measure.summary(cases.outputs(model, cases.IMAGES))
    facts["ranges"]["classifier_int8"] = cases.ranges(model)
    for name, options in {"classifier.tflite": {}, "classifier.onnx": {"target": "onnxruntime"}}.items():
        rb.export_model(model, folder / name, class_names=cases.CLASSES, **options)
        facts["metadata"][name] = rb.runtime.read_metadata(folder / name)
        facts["outputs"][name] = measure.summary(rb.runtime.load(folder / name).raw(cases.IMAGES))

    for name, build in cases.DETECTORS.items():
        model = build()
        with tempfile.TemporaryDirectory() as other:
            for suffix in ("tflite", "onnx"):
                path = Path(other) / f"{name}.{suffix}"
                rb.export_model(model, path)
                facts["metadata"][path.name] = rb.runtime.read_metadata(path)
            for form in (name, f"{name}_int8"):
                if form != name:
                    rb.quantize_post_training(model, calibration_data=cases.DETECTOR_IMAGES)
                    facts["ranges"][form] = cases.ranges(model)
                model.save(Path(other) / "x.keras")
                text = cases.configuration(Path(other) / "x.keras")
                (folder / f"{form}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
                facts["outputs"][form] = measure.summary(cases.outputs(model, cases.DETECTOR_IMAGES))

    with contextlib.suppress(KeyboardInterrupt):
        cases.train_backed_up(cases.trained(), folder / "backup", cases.StopAt(6))
    finished = cases.trained()
    with tempfile.TemporaryDirectory() as other:
        cases.train_backed_up(finished, Path(other), cases.StopAt())
    facts["trained"] = [value.tolist() for value in cases.values(finished)]
    (folder / "facts.json").write_text(json.dumps(facts) + "\n")


def command_line(folder: Path) -> dict[str, Any]:
    """Keys of every ``--json`` and exit codes, of command lines run on a folder of fixtures."""
    with tempfile.TemporaryDirectory() as out, contextlib.chdir(folder):
        cases.prepare(Path(out))
        json_keys = {}
        for name, words in cases.WITH_JSON.items():
            code, data = cases.run([*words, "--json"], Path(out))
            assert code == 0, name
            json_keys[name] = sorted(cases.keys(data))
        codes = {name: cases.run(words, Path(out))[0] for name, (words, _) in cases.CODES.items()}
    return {"json": json_keys, "exit_codes": codes}


def main() -> int:
    """Writes the fixtures of the Keras that runs, and once what is the same in both."""
    (version,) = sys.argv[1:]
    if getattr(rb, "__version__", None) != version:
        print(f"This is version {rb.__version__}, not {version}: put a checkout of {version} first in PYTHONPATH.")
        return 1
    folder = cases.FIXTURES / version / cases.KERAS
    if folder.exists():
        print(f"{folder} is there already; what a version once wrote stays as it is.")
        return 1
    write(folder)
    common = folder.parent / "names.json"
    if not common.exists():
        names = {module: sorted(importlib.import_module(module).__all__) for module in cases.PUBLIC}
        common.write_text(json.dumps({"public": names, **command_line(folder)}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
