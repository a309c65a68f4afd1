"""The classification part of the quantization study: digits, resnet20, fewer bits, other schemes, and TFMOT beside us.

One run is one seed: a classifier is trained in float, and from that checkpoint quantized in several ways, each
post-training and with training, with the same schedule and the same images in the same order. What was trained for a
target is exported, and the file's classes are compared with the Keras model's. On tf_keras TFMOT's own
``quantize_model`` is a further way.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from digits import CLASS_NAMES, make_single_digits
from rich.console import Console

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras, keras_name
from resnet_backbones.quantization import context, get_scheme

SIZE, BATCH = 32, 64
# TFMOT cannot quantize shortcuts that pad channels, which are the paper's; with projections both of us can.
SHORTCUT = "pad" if IS_KERAS_3 else "conv"
WAYS = {
    "8 bits": get_scheme("edge_int8"),
    "4-bit kernels": get_scheme("edge_int8").replace(name="edge_int8_w4", kernel_bits=4),
    "3-bit kernels": get_scheme("edge_int8").replace(name="edge_int8_w3", kernel_bits=3),
    "portable": get_scheme("portable_int8"),
    "gpu": get_scheme("gpu_int8"),
}
# Way -> files made of what was trained that way, and how.
FILES: dict[str, dict[str, dict[str, Any]]] = {
    "8 bits": {"edge.tflite": {}, "edge.onnx": {"target": "onnxruntime"}},
    "portable": {"portable.tflite": {}, "portable.onnx": {"target": "tensorrt"}},
    "gpu": {"gpu.onnx": {"target": "tensorrt"}},
}
if not IS_KERAS_3:  # there for TFMOT's sake, which has 8 bits
    WAYS = {"8 bits": WAYS["8 bits"]}
console = Console(width=110, highlight=False)


def digits(count: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Single real digits, coloured on noise: float32 (count, 32, 32, 3) from -1 to 1, and their classes."""
    images, classes = make_single_digits(count, split, canvas=SIZE)
    return images.astype("float32") / 127.5 - 1.0, classes


def classifier() -> Any:
    """A CIFAR ResNet-20 that gives logits."""
    backbone = rb.create_backbone("resnet20", input_shape=(SIZE, SIZE, 3), shortcut=SHORTCUT)
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(len(CLASS_NAMES), name="head")(x))


def train(model: Any, data: tf.data.Dataset, steps: int, epochs: int, rate: float, callbacks: Any = ()) -> None:
    """Adam with a cosine, the same for every way."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps * epochs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, jit_compile=False)
    model.fit(data, steps_per_epoch=steps, epochs=epochs, callbacks=list(callbacks), verbose=2)


def logits(model: Any, images: np.ndarray) -> np.ndarray:
    """The model's answers, (N, 10)."""
    network = tf.function(lambda x: model(x, training=False))
    return np.concatenate([network(tf.constant(images[i : i + 100])).numpy() for i in range(0, len(images), 100)])


def run(seed: int, *, images: int, steps: int, epochs: int, tuning_epochs: int, folder: Path) -> dict[str, Any]:
    """One seed.

    Args:
        seed: of the initial weights and the order of the images.
        images: of training; a quarter as many are scored on, at least 32.
        steps: batches an epoch.
        epochs: of the float training.
        tuning_epochs: of each quantization-aware training and of the float control.
        folder: for the float weights.

    Returns:
        Accuracies in points of 100, and signal-to-noise ratios of the logits against float in dB; of files, accuracies,
        the share of images with the Keras model's class, and what its report has against it.
    """
    start = time.process_time()
    keras.utils.set_random_seed(seed)
    train_images, train_classes = digits(images, "train")
    seen, classes = digits(max(32, images // 4), "validation")

    def stream(order: int) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices((train_images, train_classes))
        return data.shuffle(len(train_images), seed=order).repeat().batch(BATCH).prefetch(2)

    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "float.weights.h5"
    model = classifier()
    if not checkpoint.exists():
        train(model, stream(100 + seed), steps, epochs, 3e-3)
        model.save_weights(temporary := folder / "part.weights.h5")
        temporary.replace(checkpoint)

    def fresh() -> Any:
        made = classifier()
        made.load_weights(checkpoint)
        return made

    reference = logits(fresh(), seen)

    def facts(outputs: np.ndarray) -> dict[str, float | None]:
        accuracy = 100 * float(np.mean(outputs.argmax(-1) == classes))
        noise = float(np.sum((outputs - reference) ** 2))
        return {"accuracy": accuracy, "sqnr_db": 10 * float(np.log10(np.sum(reference**2) / noise)) if noise else None}

    results = {"float": facts(reference)}
    files: dict[str, dict[str, Any]] = {}

    def tuned(model: Any, callbacks: Any = ()) -> Any:
        train(model, stream(200 + seed), steps, tuning_epochs, 1e-3, callbacks)
        return model

    def record(name: str, model: Any) -> Any:
        results[name] = facts(logits(model, seen))
        console.print(f"seed {seed}, {name}: {results[name]}")
        return model

    record("control", tuned(fresh()))
    calibration = train_images[:256]
    for way, scheme in WAYS.items():
        post = rb.quantize_post_training(fresh(), scheme, calibration_data=calibration)
        record(f"{way}, post-training", post)
        if scheme.target == "portable":
            with context.use_view("tensorrt"):
                results["portable, post-training, without LiteRT's own"] = facts(logits(post, seen))
        schedule = rb.QuantizationSchedule(
            freeze_batch_norm_epoch=tuning_epochs - 1, freeze_ranges_epoch=tuning_epochs // 2
        )
        aware = rb.quantize_aware(fresh(), scheme, calibration_data=calibration)
        record(f"{way}, trained", tuned(aware, [schedule]))
        trained = logits(aware, seen).argmax(-1)
        for file, options in FILES.get(way, {}).items():
            report = rb.export_model(aware, folder / file, parity_data=seen[:32], **options)
            (outputs,) = rb.runtime.load(report.path, num_threads=2).raw(seen).values()
            files[file] = {
                "accuracy": facts(outputs)["accuracy"],
                "same_class": 100 * float(np.mean(outputs.argmax(-1) == trained)),
                "report_failures": report.failures,
            }
            console.print(f"seed {seed}, {file}: {files[file]}")
    if not IS_KERAS_3:
        import tensorflow_model_optimization as tfmot

        record("TFMOT quantize_model, trained", tuned(tfmot.quantization.keras.quantize_model(fresh())))
    return {
        "keras": keras_name(),
        "shortcut": SHORTCUT,
        "validation_images": len(seen),
        "steps": steps,
        "epochs": epochs,
        "tuning_epochs": tuning_epochs,
        "cpu_minutes": (time.process_time() - start) / 60,
        "classification": results,
        "files": files,
    }
