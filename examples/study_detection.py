"""The detection part of the quantization study: one detector, one seed, in float, post-training and quantization-aware.

The float checkpoint is trained on twice, in float (the control) and quantization-aware, with the same schedule and the
same images in the same order. Every score, in Keras or in LiteRT, comes from raw outputs decoded by KerasCV's decoder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import evaluation
import keras_cv
import numpy as np
import quickstart
import tensorflow as tf
from digits import CLASS_NAMES, Scenes, detection_stream, make_scenes
from quickstart import BATCH, Plan
from rich.console import Console
from study_intervals import resampled_map50
from tqdm import tqdm

import resnet_backbones as rb
from resnet_backbones._util.files import written_whole
from resnet_backbones.export.graph import build_graph
from resnet_backbones.export.litert.census import take_census
from resnet_backbones.keras_compat import keras, keras_name
from resnet_backbones.quantization import context

console = Console(width=110, highlight=False)
Raw = Callable[[np.ndarray], dict[str, np.ndarray]]
DECODED = 50  # images at a time


@dataclass(frozen=True)
class Study:
    """A detector that is studied, and with which seeds."""

    task: str
    backbone: str
    seeds: tuple[int, ...]
    detector_steps: int
    tuning_rate: float = 1e-4
    plan: dict[str, Any] = field(default_factory=dict)  # what differs from the other detectors' plan

    def build(self, backbone: Any) -> Any:
        """The detector on a backbone."""
        if self.task == "retinanet":
            return quickstart.build_detector(backbone, head_depth=1)
        return rb.adapters.keras_cv.yolo_v8_detector(
            backbone,
            num_classes=len(CLASS_NAMES),
            bounding_box_format="xywh",
            fpn_depth=1,
            prediction_decoder=keras_cv.layers.NonMaxSuppression(
                bounding_box_format="xywh",
                from_logits=False,
                confidence_threshold=evaluation.CONFIDENCE,
                iou_threshold=evaluation.OVERLAP,
                max_detections=evaluation.MOST,
            ),
        )

    def compile(self, model: Any, rate: Any) -> None:
        """Compiles with a fresh optimizer."""
        if self.task == "retinanet":
            quickstart.compile_detector(model, rate)
        else:
            optimizer = keras.optimizers.Adam(rate, global_clipnorm=10.0)
            losses = {"box_loss": "ciou", "classification_loss": "binary_crossentropy"}
            model.compile(**losses, optimizer=optimizer, jit_compile=False)


class Kept(dict):
    """Figures by name, each written to a file when it is found, and found only once.

    Args:
        path: a JSON file, read if it is there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})
        self._path = path

    def keep(self, name: str, find: Callable[[], Any]) -> None:
        """Finds the figure of that name, unless it is there."""
        if name not in self:
            self[name] = find()
            with written_whole(self._path) as temporary:
                temporary.write_text(json.dumps(self), encoding="utf-8")


def train(study: Study, model: Any, data: Any, rate: Any, steps: int, epochs: int, callbacks: Any = ()) -> Any:
    """Compiles and trains, ``steps`` an epoch."""
    study.compile(model, rate)
    model.fit(data, steps_per_epoch=steps, epochs=epochs, callbacks=list(callbacks), verbose=2)
    return model


def train_float(study: Study, plan: Plan, scenes: Scenes, seed: int) -> Any:
    """The float checkpoint."""
    model = study.build(quickstart.pretrained_backbone(replace(plan, backbone=study.backbone)))
    warmup = study.detector_steps // 10
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, study.detector_steps - warmup, alpha=0.1, warmup_target=1e-3, warmup_steps=warmup
    )
    data = detection_stream(scenes, BATCH, seed=100 + seed).repeat()
    return train(study, model, data, rate, max(1, study.detector_steps // 4), 4)


def fine_tune(study: Study, plan: Plan, scenes: Scenes, checkpoint: Path, seed: int, scheme: str | None) -> Any:
    """The checkpoint trained on, in float or quantization-aware: same rates, same images in the same order.

    The optimizer is a new one, whose first steps are as long as the rate whatever the gradients: it starts slowly, and
    ends at zero, so that what is compared is not where the last few batches left it.
    """
    model = rb.load_model(checkpoint)
    callbacks = []
    if scheme is not None:
        rb.quantize_aware(model, scheme, calibration_data=quickstart.calibration_images(plan, scenes))
        callbacks.append(rb.QuantizationSchedule(freeze_batch_norm_epoch=1, freeze_ranges_epoch=2))
    data = detection_stream(scenes, BATCH, seed=200 + seed).repeat()
    steps = plan.tuning_steps * plan.tuning_epochs
    warmup = max(1, steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=study.tuning_rate, warmup_steps=warmup
    )
    return train(study, model, data, rate, plan.tuning_steps, plan.tuning_epochs, callbacks)


def converter_int8(model: Any, images: np.ndarray) -> bytes:
    """What LiteRT's converter makes of the float model by itself, from representative images."""
    graph = build_graph(model, split_outputs=False, mode=context.FLOAT)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    inputs = images * np.float32(graph.scale) + np.float32(graph.offset)
    converter.representative_dataset = lambda: ([image[None].astype("float32")] for image in inputs)
    return converter.convert()


def raw_of_converted(data: bytes, model: Any) -> Raw:
    """Runs a file of :func:`converter_int8`: outputs by name, told apart by their last axis."""
    graph = build_graph(model, split_outputs=False, mode=context.FLOAT)
    interpreter = tf.lite.Interpreter(model_content=data, num_threads=2)
    interpreter.allocate_tensors()
    (given,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    names = {int(tensor.shape[-1]): name for name, tensor in zip(graph.part_names, graph.function.outputs, strict=True)}

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
        for image in images * np.float32(graph.scale) + np.float32(graph.offset):
            interpreter.set_tensor(given["index"], image[None])
            interpreter.invoke()
            for output in outputs:
                value = interpreter.get_tensor(output["index"])
                found[names[value.shape[-1]]].append(value)
        return {name: np.concatenate(values) for name, values in found.items()}

    return run


def raw_of_keras(model: Any) -> Raw:
    """The Keras model's raw outputs."""
    network = tf.function(lambda images: model(images, training=False))
    return lambda images: {name: value.numpy() for name, value in network(tf.constant(images)).items()}


def tensorrt_errors(path: Path) -> dict[str, list[str]]:
    """What TensorRT's rules have against an ONNX file: rule and node."""
    return {"tensorrt_errors": [f"{one.rule}: {one.node}" for one in rb.export.tensorrt.check(path).of("error")]}


def score(name: str, raw: Raw, model: Any, scenes: Scenes) -> dict[str, Any]:
    """COCO mAP and mAP50, in points of 100, of raw outputs decoded by the KerasCV model they belong to.

    Args:
        name: what is scored, for the terminal.
        raw: images to outputs by name.
        model: the KerasCV detector that decodes them.
        scenes: what to detect; a multiple of ``DECODED`` images, or fewer.

    Returns:
        ``map50``, ``map``, and ``resampled_map50``: mAP50 on resampled sets of the images, for intervals.
    """
    decode = tf.function(model.decode_predictions)  # eager, it takes as long as the networks
    found = []
    for start in tqdm(range(0, len(scenes), DECODED), desc=name, unit="batch"):
        images = scenes.images[start : start + DECODED].astype("float32")
        outputs = {key: tf.constant(value) for key, value in raw(images).items()}
        decoded = {key: value.numpy() for key, value in decode(outputs, tf.constant(images)).items()}
        for boxes, classes, scores, count in zip(
            *(decoded[key] for key in ("boxes", "classes", "confidence", "num_detections")), strict=True
        ):
            found.append(rb.runtime.Detections(boxes[:count], classes[:count].astype("int64"), scores[:count]))
    accuracy = evaluation.coco_accuracy(scenes, found)
    console.print(f"{name}: mAP50 {accuracy.map50:.2f}, mAP {accuracy.map:.2f}")
    return {"map50": accuracy.map50, "map": accuracy.map, "resampled_map50": resampled_map50(scenes, found)}


def run(study: Study, seed: int, plan: Plan, folder: Path) -> dict[str, Any]:
    """One detector, one seed: trains what is missing, scores all.

    Args:
        study: the detector.
        seed: of the initial weights and of the order of the images.
        plan: how much of everything.
        folder: for the models.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = time.process_time()
    keras.utils.set_random_seed(seed)
    train_scenes = make_scenes(plan.scenes, "train", seed=1)
    validation = make_scenes(plan.validation, "validation")
    images = quickstart.calibration_images(plan, train_scenes)
    results = Kept(folder / "scores.json")

    def made(name: str, make: Callable[[], Any]) -> Any:
        """The model of that name: from its file, or made and saved."""
        path = folder / f"{name}.keras"
        if not path.exists():
            console.rule(f"{folder.name}: {name}")
            model = make()
            study.compile(model, 1e-3)  # saved without the state of its training
            with written_whole(path) as temporary:
                model.save(temporary)
        return rb.load_model(path)

    def scored(name: str, model: Any) -> Any:
        """The model, scored in Keras."""
        results.keep(name, lambda: score(name, raw_of_keras(model), model, validation))
        return model

    def exported(name: str, model: Any, file: str, **options: Any) -> None:
        """The int8 file of a quantized model, scored."""

        def facts() -> dict[str, Any]:
            few = validation.images[:8].astype("float32")
            report = rb.export_model(model, folder / file, parity_data=few, **options)
            raw = rb.runtime.load(report.path, num_threads=2).raw
            checked = {} if options.get("target") != "tensorrt" else tensorrt_errors(report.path)
            return score(name, raw, model, validation) | {
                "int8_mac_share": report.int8_mac_share,
                "cosine": {entry.name: entry.cosine for entry in report.parity},
                "report_failures": report.failures,
                **checked,
                "megabytes": report.size_bytes / 1e6,
            }

        results.keep(name, facts)

    def converted() -> dict[str, Any]:
        data = converter_int8(model, images)
        return score("converter_int8", raw_of_converted(data, model), model, validation) | {
            "int8_mac_share": take_census(data).int8_share
        }

    def tuned(scheme: str | None) -> Any:
        return fine_tune(study, plan, train_scenes, folder / "float.keras", seed, scheme)

    model = scored("float", made("float", lambda: train_float(study, plan, train_scenes, seed)))
    results.keep("converter_int8", converted)
    if "post_training_int8" not in results:
        rb.quantize_post_training(model, "edge_int8", calibration_data=images)
    exported("post_training_int8", model, "post_training.tflite")
    scored("control", made("control", lambda: tuned(None)))
    aware = scored("aware", made("aware", lambda: tuned("edge_int8")))
    exported("exported", aware, "aware.tflite")
    exported("exported_onnx", aware, "aware.onnx", target="onnxruntime")
    portable = scored("aware_portable", made("aware_portable", lambda: tuned("portable_int8")))
    exported("exported_portable", portable, "aware_portable.tflite")
    with context.use_view("tensorrt"):  # the graph that a file for TensorRT holds
        results.keep(
            "aware_portable_view", lambda: score("aware_portable_view", raw_of_keras(portable), portable, validation)
        )
    exported("exported_portable_onnx", portable, "aware_portable.onnx", target="tensorrt")
    gpu = scored("aware_gpu", made("aware_gpu", lambda: tuned("gpu_int8")))
    exported("exported_gpu_onnx", gpu, "aware_gpu.onnx", target="tensorrt")
    return {
        "keras": keras_name(),
        "validation_images": plan.validation,
        "detector_steps": study.detector_steps,
        "tuning_steps": plan.tuning_steps * plan.tuning_epochs,
        "tuning_rate": study.tuning_rate,
        "cpu_minutes": (time.process_time() - start) / 60,
        "results": dict(results),
    }
