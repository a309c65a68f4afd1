"""What ``predict`` costs beyond the network: RetinaNet, 512 px, 80 classes, on a uint8 image of the network's size.

The network is RetinaNet on mobilenetv2_100 with random weights, in int8, with 49,104 anchors. What suppression costs
depends on how many boxes score above the threshold (0.5), so two stand-ins are made by moving the bias of the last
layer of the classification head:

* trained: the 40 best boxes of the image score above the threshold, as a trained detector's do;
* untrained: half of all boxes do.

The engine alone (``timer()``) and ``predict`` run in turns, and the smallest time of each counts. Files stay in
runs/predict/ and are not made again; the table goes to runs/predict/table.md.

    python benchmarks/predict.py                    # about five minutes on two cores
    python benchmarks/predict.py --size 128 --rounds 5 --folder /tmp/try
"""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rounds import ROOT, report

COLUMNS = ("stand-in", "runs in", "boxes found", "network ms", "predict ms", "predict / network")
CLASSES = 80
ENGINES = {"litert": ".tflite", "onnxruntime": ".onnx", "openvino": ".onnx"}
#: stand-in -> how many of so many boxes score above the threshold
STAND_INS = {"trained": lambda boxes: 40, "untrained": lambda boxes: boxes // 2}


def photograph(size: int) -> np.ndarray:
    """(size, size, 3) uint8, a cut of one of scikit-learn's photographs, enlarged if it must be."""
    from sklearn.datasets import load_sample_images

    from resnet_backbones.runtime.images import resize_bilinear

    return resize_bilinear(load_sample_images().images[0][:, :427], size, size).astype(np.uint8)


def make_files(folder: Path, size: int) -> None:
    """Exports what is missing."""
    missing = [
        name for name in STAND_INS for suffix in (".tflite", ".onnx") if not (folder / f"{name}{suffix}").exists()
    ]
    if not missing:
        return
    import resnet_backbones as rb
    from resnet_backbones.keras_compat import keras

    images = photograph(size)[None].astype(np.float32)
    for name in dict.fromkeys(missing):
        keras.utils.set_random_seed(0)
        scaling = rb.Preprocessing(1 / 127.5, -1.0)
        backbone = rb.create_backbone("mobilenetv2_100", input_shape=(size, size, 3), preprocessing=scaling)
        model = rb.adapters.keras_cv.retinanet(backbone, CLASSES, "xywh")
        best = np.sort(np.asarray(model(images, training=False)["classification"])[0].max(axis=-1))[::-1]
        bias = model.classification_head.prediction_layer.bias
        bias.assign(np.asarray(bias) - best[STAND_INS[name](len(best))])
        model = rb.quantize_post_training(model, "portable_int8", calibration_data=images)
        for suffix in (".tflite", ".onnx"):
            target: dict[str, Any] = {"target": "onnxruntime"} if suffix == ".onnx" else {}
            rb.export_model(model, folder / f"{name}{suffix}", parity_data=images, **target)


def in_turns(model: Any, image: np.ndarray, rounds: int) -> tuple[float, float]:
    """The least milliseconds of the network alone, and of ``predict``."""
    network, predict = model.timer(), lambda: model.predict(image)
    times: dict[Any, list[float]] = {network: [], predict: []}
    for _ in range(rounds):
        for run in (network, predict):
            start = time.perf_counter()
            run()
            times[run].append(time.perf_counter() - start)
    return 1e3 * min(times[network]), 1e3 * min(times[predict])


def main() -> None:
    """Makes the files, times them, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "predict")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    make_files(arguments.folder, arguments.size)

    from resnet_backbones import runtime

    image, rows = photograph(arguments.size), []
    for name in STAND_INS:
        for engine, suffix in ENGINES.items():
            if engine == "openvino" and find_spec(engine) is None:
                continue
            model = runtime.load(arguments.folder / f"{name}{suffix}", engine, arguments.threads)
            boxes = len(model.predict(image)[0])
            network, predict = in_turns(model, image, arguments.rounds)
            cells = (str(boxes), f"{network:.1f}", f"{predict:.1f}", f"{predict / network:.2f}")
            rows.append((name, engine, *cells))
    title = (
        f"predict on a uint8 image of {arguments.size} px, RetinaNet, {CLASSES} classes, {arguments.threads} threads, "
        f"{arguments.rounds} rounds in turns"
    )
    notes = "trained: 40 boxes above the threshold; untrained: half of all. At most 100 boxes are returned."
    report(title, COLUMNS, rows, 2, notes, arguments.folder / "table.md")


if __name__ == "__main__":
    main()
