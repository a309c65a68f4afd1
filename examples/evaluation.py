"""Scores detectors on scenes of digits: COCO mAP, latency, a picture. One function scores every detector."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from digits import CLASS_NAMES, Scenes
from rich.table import Table
from tqdm import tqdm

import resnet_backbones as rb
from resnet_backbones.runtime import Detections

CONFIDENCE = 0.02  # low, because average precision wants the unsure detections too
OVERLAP = 0.5  # boxes that overlap more are taken for the same digit
MOST = 30  # detections an image


@dataclass(frozen=True)
class Accuracy:
    """COCO's mean average precision, in points of 100.

    Args:
        map: mean over overlaps of 0.50, 0.55 ... 0.95.
        map50: at an overlap of 0.50.
    """

    map: float
    map50: float


def detect_in_keras(model: Any, scenes: Scenes, batch_size: int = 50) -> list[Detections]:
    """What a KerasCV detector finds, decoded by KerasCV: one `Detections` a scene, boxes "xywh"."""
    found = model.predict(scenes.images.astype("float32"), batch_size=batch_size, verbose=1)
    return [
        Detections(boxes=boxes[:count], classes=classes[:count].astype("int64"), scores=scores[:count])
        for boxes, classes, scores, count in zip(
            *(np.asarray(found[key]) for key in ("boxes", "classes", "confidence", "num_detections")), strict=True
        )
    ]


def detect_in_runtime(model: Any, scenes: Scenes) -> list[Detections]:
    """What an exported detector finds: `model` from `runtime.load`; no Keras, no TensorFlow."""
    images = tqdm(scenes.images, desc="detecting in LiteRT", unit="image")
    return [model.predict(image, confidence=CONFIDENCE, iou=OVERLAP)[0] for image in images]


@dataclass
class Row:
    """One line of the table: a file, what runs it, what it found and how well and fast.

    Args:
        name: what the detector is.
        engine: "Keras" or "LiteRT".
        megabytes: size of the file.
        found: its detections, one a scene.
        accuracy: its score.
        milliseconds: best time of the network on one image, decoding of boxes left out.
    """

    name: str
    engine: str
    megabytes: float
    found: list[Detections]
    accuracy: Accuracy
    milliseconds: float = float("nan")

    def to_dict(self) -> dict[str, Any]:
        """The figures, without the detections, for JSON."""
        figures = {"name": self.name, "engine": self.engine, "megabytes": self.megabytes}
        return {**figures, **asdict(self.accuracy), "milliseconds": self.milliseconds}


def score_files(folder: Path, files: Mapping[str, str], scenes: Scenes, rounds: int = 40) -> dict[str, Row]:
    """Loads each file, scores it on the scenes, then times all of them in turns.

    Args:
        folder: where the files are.
        files: file name -> what it is. A `.keras` file runs in Keras, a `.tflite` in `resnet_backbones.runtime`.
        scenes: what to detect.
        rounds: how often each is timed.

    Returns:
        File name -> row.
    """
    rows, runs = {}, {}
    image = scenes.images[:1].astype("float32")
    for file, name in files.items():
        path = folder / file
        if path.suffix == ".keras":
            model, engine = rb.load_model(path), "Keras"
            model.compile(box_loss="smoothl1", classification_loss="focal", jit_compile=False)
            found, runs[file] = detect_in_keras(model, scenes), _network(model, image)
        else:
            model, engine = rb.runtime.load(path, num_threads=2), "LiteRT"
            found, runs[file] = detect_in_runtime(model, scenes), partial(model.raw, image)
        rows[file] = Row(name, engine, path.stat().st_size / 1e6, found, coco_accuracy(scenes, found))
    for file, milliseconds in latencies(runs, rounds).items():
        rows[file].milliseconds = milliseconds
    return rows


def _network(model: Any, image: np.ndarray) -> Callable[[], Any]:
    """The network of a Keras detector, as one compiled function of nothing."""
    import tensorflow as tf

    network, tensor = tf.function(lambda images: model(images, training=False)), tf.constant(image)
    return lambda: network(tensor)


def table(rows: Mapping[str, Row], title: str) -> Table:
    """The rows as a table for a terminal."""
    made = Table(title=title)
    made.add_column("detector")
    made.add_column("runs in")
    for column in ("COCO mAP", "mAP50", "file, MB", "ms an image"):
        made.add_column(column, justify="right")
    for row in rows.values():
        score = (f"{row.accuracy.map:.2f}", f"{row.accuracy.map50:.2f}")
        made.add_row(row.name, row.engine, *score, f"{row.megabytes:.2f}", f"{row.milliseconds:.2f}")
    return made


def coco_accuracy(scenes: Scenes, found: Sequence[Detections]) -> Accuracy:
    """COCO mAP and mAP50 (pycocotools) of one `Detections` a scene, boxes "xywh" in pixels."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = [
        {
            "image_id": image,
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
            "category_id": int(name),
            "iscrowd": 0,
        }
        for image in range(len(scenes))
        for box, name in zip(scenes.boxes[image], scenes.classes[image], strict=True)
        if name >= 0
    ]
    results = [
        {"image_id": image, "bbox": box.tolist(), "category_id": int(name), "score": float(score)}
        for image, one in enumerate(found)
        for box, name, score in zip(one.boxes, one.classes, one.scores, strict=True)
    ]
    if not results:
        return Accuracy(0.0, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports each step
        reference = COCO()
        reference.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(scenes))],
            "categories": [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES)],
            "annotations": [{"id": number, **one} for number, one in enumerate(truth, start=1)],
        }
        reference.createIndex()
        score = COCOeval(reference, reference.loadRes(results), "bbox")
        score.evaluate()
        score.accumulate()
        score.summarize()
    return Accuracy(map=100 * float(score.stats[0]), map50=100 * float(score.stats[1]))


def latencies(runs: Mapping[str, Callable[[], Any]], rounds: int = 40) -> dict[str, float]:
    """The best time of each run, in milliseconds.

    The runs take turns: a machine that slows down for a while then slows all of them. The best of many is what the
    machine can do when nothing else disturbs it.
    """
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        run()
    for _ in tqdm(range(rounds), desc="timing in turns", unit="round"):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], 1000 * (time.perf_counter() - start))
    return best


def truth_of(scenes: Scenes) -> list[Detections]:
    """The known boxes, as if a perfect detector had found them."""
    return [
        Detections(boxes=boxes[known], classes=classes[known].astype("int64"), scores=np.ones(known.sum(), "float32"))
        for boxes, classes, known in zip(scenes.boxes, scenes.classes, scenes.classes >= 0, strict=True)
    ]


def draw(scenes: Scenes, columns: Mapping[str, Sequence[Detections]], path: Path, confidence: float = 0.4) -> None:
    """Writes a PNG: a scene a row, a detector a column, boxes above `confidence` with their class and score."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 * len(columns), 2.4 * len(scenes) + 0.3), layout="constrained")
    grid = figure.subplots(len(scenes), len(columns), squeeze=False)
    for row, axes in enumerate(grid):
        for axis, (title, found) in zip(axes, columns.items(), strict=True):
            axis.imshow(scenes.images[row])
            axis.set_axis_off()
            if row == 0:
                axis.set_title(title, fontsize=11)
            for box, name, score in zip(found[row].boxes, found[row].classes, found[row].scores, strict=False):
                if score >= confidence:
                    _draw_box(axis, box, CLASS_NAMES[name] + ("" if title == "truth" else f" {score:.2f}"), int(name))
    figure.savefig(path, dpi=110)


def _draw_box(axis: Any, box: np.ndarray, label: str, number: int) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    colour = colormaps["tab10"](number)
    x, y, width, height = box
    axis.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=colour, linewidth=1.6))
    place = {"x": x, "y": max(y - 1.5, 6), "va": "bottom" if y >= 8 else "top"}
    axis.text(s=label, fontsize=7.5, color="white", bbox={"facecolor": colour, "pad": 0.8, "linewidth": 0}, **place)
