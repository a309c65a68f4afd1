"""From a backbone's name to an int8 detector, on real images, in a quarter of an hour on two cores.

Trains a KerasCV RetinaNet to find handwritten digits, fine-tunes it with quantization in the loop, exports it to LiteRT
and runs the file without TensorFlow. Writes models, a table and a picture to runs/quickstart/ (runs/quickstart-quick/).

    python examples/quickstart.py            # 15 minutes at most on two idle cores
    python examples/quickstart.py --quick    # two minutes; shows that it runs, its figures mean nothing
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow leaves oneDNN off on CPUs without AVX-512; with it these networks train 2 to 5 times faster there.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import evaluation
import keras_cv
import numpy as np
import tensorflow as tf
from digits import CANVAS, CLASS_NAMES, Scenes, detection_stream, make_scenes, make_single_digits
from rich.console import Console

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras, keras_name  # Keras 3, or tf_keras with TF_USE_LEGACY_KERAS=1

BATCH = 16
START = time.perf_counter()
RUNS = Path(__file__).resolve().parents[1] / "runs"
# The files that are compared, and what each is. Those in Keras and in LiteRT hold the same weights.
DETECTORS = {
    "float.keras": "float",
    "float.tflite": "float, exported",
    "control.keras": "control: float, trained on",
    "post_training_int8.tflite": "post-training int8",
    "quantization_aware.keras": "quantization-aware",
    "quantization_aware_int8.tflite": "quantization-aware int8, exported",
}
console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
for harmless in (  # what Keras says of KerasCV's detectors at each turn
    "The structure of `inputs` doesn't match",
    "`shuffle=True` was passed, but will be ignored",
    "`compile\\(\\)` was not called as part of model loading",
):
    warnings.filterwarnings("ignore", message=harmless)


@dataclass(frozen=True)
class Plan:
    """What is built, and how much of everything; `steps` are batches of BATCH."""

    folder: str = "quickstart"
    backbone: str = "resnet18"
    head_depth: int = 1  # convolutions in each head before its last; KerasCV has 3
    classifier_steps: int = 250
    detector_steps: int = 280
    tuning_epochs: int = 3
    tuning_steps: int = 25  # an epoch
    scenes: int = 2400
    validation: int = 300
    calibration_batches: int = 8
    timing_rounds: int = 40


QUICK = Plan(
    folder="quickstart-quick",
    backbone="resnet10t",
    head_depth=1,
    classifier_steps=4,
    detector_steps=4,
    tuning_steps=1,
    scenes=64,
    validation=16,
    calibration_batches=1,
    timing_rounds=5,
)


def pretrained_backbone(plan: Plan) -> Any:
    """The backbone, first trained to tell single digits on 48 px images: cheap, and the detector learns sooner."""
    images, classes = make_single_digits(min(4800, plan.classifier_steps * 2 * BATCH), "train", canvas=CANVAS // 2)
    small = rb.create_backbone(
        plan.backbone, input_shape=(CANVAS // 2, CANVAS // 2, 3), preprocessing="minus_one_to_one"
    )
    classifier = rb.adapters.keras_cv.image_classifier(small, num_classes=len(CLASS_NAMES))
    classifier.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, plan.classifier_steps)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    data = tf.data.Dataset.from_tensor_slices((images, classes)).shuffle(len(images), seed=0).repeat()
    data = data.batch(2 * BATCH).map(lambda x, y: (tf.cast(x, tf.float32), y)).prefetch(2)
    classifier.fit(data, steps_per_epoch=plan.classifier_steps // 2, epochs=2)
    backbone = rb.create_backbone(plan.backbone, input_shape=(CANVAS, CANVAS, 3), preprocessing="minus_one_to_one")
    backbone.set_weights(small.get_weights())
    return backbone


def build_detector(backbone: Any, head_depth: int) -> Any:
    """A RetinaNet whose anchors have the sizes of our digits."""
    return rb.adapters.keras_cv.retinanet(
        backbone,
        num_classes=len(CLASS_NAMES),
        bounding_box_format="xywh",
        head_depth=head_depth,
        anchor_generator=keras_cv.layers.AnchorGenerator(
            bounding_box_format="xywh",
            sizes=[18.0, 36.0, 72.0, 144.0, 288.0],
            scales=[1.0, 2 ** (1 / 3), 2 ** (2 / 3)],
            aspect_ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128],
            clip_boxes=True,
        ),
        prediction_decoder=keras_cv.layers.NonMaxSuppression(
            bounding_box_format="xywh",
            from_logits=True,
            confidence_threshold=evaluation.CONFIDENCE,
            iou_threshold=evaluation.OVERLAP,
            max_detections=evaluation.MOST,
        ),
    )


def compile_detector(model: Any, rate: Any = 1e-3) -> None:
    """Compiles with a fresh optimizer. KerasCV's detectors do not pass through XLA, hence `jit_compile=False`."""
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=10.0)
    model.compile(box_loss="smoothl1", classification_loss="focal", optimizer=optimizer, jit_compile=False)


def save(model: Any, path: Path) -> Path:
    """Saves a detector without the state of its training: a fresh optimizer has none."""
    compile_detector(model)
    model.save(path)
    return path


def train_float(plan: Plan, scenes: Scenes, path: Path) -> None:
    """Trains the float detector and saves it."""
    heading("A digit classifier, to give the backbone a start")
    model = build_detector(pretrained_backbone(plan), plan.head_depth)
    heading("The detector in float")
    warmup = plan.detector_steps // 10
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, plan.detector_steps - warmup, alpha=0.1, warmup_target=1e-3, warmup_steps=warmup
    )
    compile_detector(model, rate)
    model.fit(detection_stream(scenes, BATCH, seed=1).repeat(), steps_per_epoch=plan.detector_steps // 2, epochs=2)
    save(model, path)


def fine_tune(plan: Plan, scenes: Scenes, checkpoint: Path, *, quantize: bool) -> Any:
    """Trains a saved detector on, in float or quantization-aware: same rate, same images in the same order."""
    model = rb.load_model(checkpoint)
    callbacks = []
    if quantize:
        rb.quantize_aware(model, scheme="edge_int8", calibration_data=calibration_images(plan, scenes))
        callbacks.append(rb.QuantizationSchedule(freeze_batch_norm_epoch=1, freeze_ranges_epoch=2))
    compile_detector(model, 1e-4)
    data = detection_stream(scenes, BATCH, seed=2).repeat()
    model.fit(data, steps_per_epoch=plan.tuning_steps, epochs=plan.tuning_epochs, callbacks=callbacks)
    return model


def calibration_images(plan: Plan, scenes: Scenes) -> np.ndarray:
    """Training images for the first ranges of activations."""
    return scenes.images[: plan.calibration_batches * BATCH].astype("float32")


def heading(text: str) -> None:
    """Announces a step and says how far the clock is."""
    console.rule(f"[bold]{text}[/bold]  [dim]{(time.perf_counter() - START) / 60:.1f} min[/dim]", align="left")


def main() -> None:
    """Runs the comparison; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run of two minutes; its figures mean nothing")
    quick = parser.parse_args().quick
    plan = QUICK if quick else Plan()
    out = RUNS / plan.folder
    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    console.print(
        f"{plan.backbone} in a RetinaNet on {keras_name()}"
        + (", quick: no figure below means anything" if quick else "")
    )

    train = make_scenes(plan.scenes, "train", seed=1)
    validation = make_scenes(plan.validation, "validation")
    parity = validation.images[:8].astype("float32")

    def export(model: Any, name: str) -> Path:
        report = rb.export_model(model, out / f"{name}.tflite", parity_data=parity, class_names=CLASS_NAMES)
        print(report)
        return report.path

    checkpoint = out / "float.keras"
    train_float(plan, train, checkpoint)
    float_model = rb.load_model(checkpoint)
    export(float_model, "float")

    heading("Post-training int8: calibrated, not trained")
    images = calibration_images(plan, train)
    export(rb.quantize_post_training(float_model, "edge_int8", calibration_data=images), "post_training_int8")

    heading("The control: float, trained on for as long as the quantized detector will be")
    save(fine_tune(plan, train, checkpoint, quantize=False), out / "control.keras")

    heading("Quantization-aware training: backbone, feature pyramid and both heads")
    aware = fine_tune(plan, train, checkpoint, quantize=True)
    save(aware, out / "quantization_aware.keras")
    export(aware, "quantization_aware_int8")

    heading(f"Scores on {plan.validation} images of digits that no training has seen")
    rows = evaluation.score_files(out, DETECTORS, validation, plan.timing_rounds)
    evaluation.draw(
        validation[:6],
        {
            "truth": evaluation.truth_of(validation),
            "float": rows["float.keras"].found,
            "int8, in LiteRT": rows["quantization_aware_int8.tflite"].found,
        },
        out / "detections.png",
    )
    minutes = (time.perf_counter() - START) / 60
    record = {"quick": quick, "keras": keras_name(), "minutes": minutes, "plan": asdict(plan)}
    record["rows"] = {name: row.to_dict() for name, row in rows.items()}
    (out / "results.json").write_text(json.dumps(record, indent=2) + "\n")
    console.print(evaluation.table(rows, "QUICK RUN: THESE FIGURES MEAN NOTHING" if quick else "Digits, 96 px"))
    console.print(f"Models, results.json and detections.png are in {out}. {minutes:.1f} minutes.")


if __name__ == "__main__":
    main()
