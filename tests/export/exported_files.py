"""The networks that users ship, at real sizes, exported in every form: does each file's report pass, what else holds.

Weights and batch norms are random; the model is quantized post-training, on patches of photographs, and exported to
LiteRT, to ONNX for ONNX Runtime and to ONNX for TensorRT. Of every ONNX file: ``onnx.checker``, our check of
TensorRT's rules, and a run in ONNX Runtime, by which the report compares it. Results go to docs/exported_files.json one
by one; what stands there is not done again. The table goes to docs/exported_files.md. Trained networks are in the study
(docs/quantization.md).

    python -m tests.export.exported_files                   # a quarter of an hour on one core
    python -m tests.export.exported_files "resnet50 classifier"
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tqdm import tqdm

import resnet_backbones as rb
from resnet_backbones._util.files import written_whole
from resnet_backbones.keras_compat import keras
from tests.support.nets import randomise

from .int8_catalogue import photograph_patches

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Network:
    """One network: the task, on which backbone, for square images of so many pixels."""

    task: str
    backbone: str
    size: int
    classes: int
    arguments: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """The model, untrained."""
        shape = (self.size, self.size, 3)
        keras.utils.set_random_seed(0)
        backbone = rb.create_backbone(self.backbone, input_shape=shape, preprocessing="minus_one_to_one")
        return getattr(rb.adapters.keras_cv, self.task)(backbone, num_classes=self.classes, **self.arguments)


BOXES = {"bounding_box_format": "xywh"}
# Of random weights a softmax of 1,000 classes gives 5 steps of 1/256 at most, whose cosine tells nothing.
LOGITS = {"activation": None}
NETWORKS = {
    "resnet50 classifier": Network("image_classifier", "resnet50", 224, 1000, LOGITS),
    "mobilenetv2_100 classifier": Network("image_classifier", "mobilenetv2_100", 224, 1000, LOGITS),
    "resnet18 RetinaNet": Network("retinanet", "resnet18", 256, 20, BOXES),
    "resnet50 RetinaNet": Network("retinanet", "resnet50", 256, 20, BOXES),
    "resnet18 YOLOV8": Network("yolo_v8_detector", "resnet18", 256, 20, BOXES),
    "resnet50 DeepLabV3+": Network("deeplab_v3_plus", "resnet50", 256, 20),
}
# Scheme -> files made of a model quantized with it.
FILES: dict[str, dict[str, dict[str, Any]]] = {
    "edge_int8": {"LiteRT": {}, "ONNX, onnxruntime": {"target": "onnxruntime"}},
    "portable_int8": {"LiteRT": {}, "ONNX, tensorrt": {"target": "tensorrt"}},
    "gpu_int8": {"ONNX, tensorrt": {"target": "tensorrt"}},
}


def facts_of(report: Any, images: np.ndarray) -> dict[str, Any]:
    """What a report says; an ONNX file is checked besides, and run by ONNX Runtime as it does by itself."""
    found = {
        "megabytes": report.size_bytes / 1e6,
        "giga_macs": report.census.macs / 1e9,
        "operators": sum(report.operators.values()),
        "int8_share": report.int8_mac_share,
        "cosine": {entry.name: entry.cosine for entry in report.parity},
        "within_two_steps": {entry.name: entry.within_two_steps for entry in report.parity},
        "failures": report.failures,
    }
    if report.format == "onnx":
        onnx.checker.check_model(str(report.path), full_check=True)
        rb.runtime.load(report.path).raw(images)
        checked = rb.export.tensorrt.check(report.path)
        found["tensorrt"] = {severity: len(checked.of(severity)) for severity in ("error", "warning", "info")}
        found["tensorrt_errors"] = sorted({f"{one.rule}: {one.node}" for one in checked.of("error")})
    return found


def export_all(name: str, scheme: str, keep: Callable[[str, dict[str, Any]], None], done: set[str]) -> None:
    """Quantizes one network with one scheme and makes each file.

    Args:
        name: of the network.
        scheme: of quantization.
        keep: called with a row's name and its figures as they come.
        done: names of rows that are there.
    """
    rows = {f"{name}, {scheme}, {file}": options for file, options in FILES[scheme].items()}
    if rows.keys() <= done:
        return
    model = randomise(NETWORKS[name].build())
    images = 127.5 * (photograph_patches(NETWORKS[name].size, every=1) + 1.0)
    rb.quantize_post_training(model, scheme, calibration_data=images)
    for row, options in rows.items():
        if row in done:
            continue
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("model.onnx" if options else "model.tflite")
            facts = facts_of(rb.export_model(model, path, parity_data=images[:4], **options), images[:1])
        keep(row, facts | {"cpu_s": time.process_time() - start})
    del model
    keras.backend.clear_session()
    gc.collect()


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Exported files, checked",
        "",
        "Made by `python -m tests.export.exported_files`: random weights and batch norms, quantized post-training,",
        "exported, and each file compared with the Keras model on patches of photographs: the figures of the worst",
        "output. Every ONNX file passed `onnx.checker` and ran in ONNX Runtime. Where a report passes with fewer than",
        "99 % of the values within two steps, the Keras model comes no nearer to itself ([export.md](export.md)).",
        "",
        "| network, scheme, file | MB | GMACs | operators | int8 | cosine | in 2 steps | report | TensorRT errors |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for row, facts in results.items():
        within = [share for share in facts["within_two_steps"].values() if share is not None]
        errors = str(facts["tensorrt"]["error"]) if row.endswith(", tensorrt") else ""
        lines.append(
            f"| {row} | {facts['megabytes']:.1f} | {facts['giga_macs']:.2f} | {facts['operators']} | "
            f"{100 * facts['int8_share']:.2f} % | {min(facts['cosine'].values()):.5f} | "
            f"{f'{100 * min(within):.2f} %' if within else ''} | "
            f"{'; '.join(facts['failures']) or 'passed'} | {errors} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Does what is missing, then writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help="names of networks")
    parser.add_argument("--scheme", choices=FILES, action="append", help="one scheme, or several")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "exported_files.json")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}

    def keep(row: str, facts: dict[str, Any]) -> None:
        results[row] = facts
        with written_whole(arguments.results) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        tqdm.write(f"{row}: {facts['failures'] or 'passed'} {facts.get('tensorrt', '')}")

    todo = [(name, scheme) for name in arguments.networks for scheme in arguments.scheme or FILES]
    for name, scheme in tqdm(todo, unit="model"):
        export_all(name, scheme, keep, set(results))
    with written_whole(arguments.results.with_suffix(".md")) as temporary:
        temporary.write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
