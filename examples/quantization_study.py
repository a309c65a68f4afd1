"""What quantization costs and gains on whole detectors: float, post-training, quantization-aware; in Keras and LiteRT.

Each run trains a detector of handwritten digits in float, then trains the same checkpoint on twice, in float (the
control) and quantization-aware, with the same schedule and the same images in the same order. Scored on 1,000 images of
digits that no training saw (3,000 where there is one seed): the float checkpoint; post-training int8, ours and the
LiteRT converter's own, each in LiteRT; the control; the quantization-aware model in Keras and its exported file in
LiteRT; and models trained with each further scheme beside the files made of them, ONNX files too. Every one is decoded
by KerasCV's own decoder, from the raw outputs.

Models and scores go to runs/study/ as they come; a run's figures go to docs/quantization/NAME-SEED.json when it ends.
What is there is not done again, so a stopped study goes on where it was. The tables go to docs/quantization.md.

    python examples/quantization_study.py                       # what is missing: hours on two cores
    python examples/quantization_study.py --only retinanet_resnet18 --seed 0
    python examples/quantization_study.py --quick --results /tmp/quick   # minutes; its figures mean nothing
    python examples/quantization_study.py --tables
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import quickstart
import study_classification
import study_detection
from quickstart import Plan
from study_detection import Study
from study_tables import write_tables

from resnet_backbones._util.files import written_whole
from resnet_backbones.keras_compat import IS_KERAS_3

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "quantization.md"

# Of one seed there is no mean that evens out what one file rounds up and another down: three times the images instead.
# The float training is longer, and so is what follows: a tenth of it.
MORE: dict[str, Any] = {"validation": 3000, "tuning_steps": 67}
STUDIES = {
    "retinanet_resnet18": Study("retinanet", "resnet18", (0, 1, 2), 320),
    # Slow to learn: pretrained as the others it knows a quarter of the digits, and then learns the scenes by heart, for
    # 87.8 points on those of validation.
    "retinanet_mobilenetv2_100": Study(
        "retinanet", "mobilenetv2_100", (0,), 2000, plan={"classifier_steps": 1500, "scenes": 4800, **MORE}
    ),
    "yolo_v8_resnet18": Study("yolo_v8", "resnet18", (0,), 2000, tuning_rate=5e-5, plan=MORE),
}
# The same classifier on either Keras; on tf_keras TFMOT's own quantization beside ours.
CLASSIFIERS = {"digits_resnet20": False, "digits_resnet20_tf_keras": True}
CLASSIFIER_SEEDS = (0, 1, 2)
CLASSIFIER_PLAN = {"images": 4000, "steps": 60, "epochs": 8, "tuning_epochs": 4}
QUICK_CLASSIFIER_PLAN = {"images": 128, "steps": 2, "epochs": 1, "tuning_epochs": 1}
VALIDATION = 1000
PLAN = Plan(folder="study", classifier_steps=250, tuning_epochs=3, tuning_steps=30)
QUICK = replace(quickstart.QUICK, folder="study-quick")


def detect(name: str, seed: int, quick: bool) -> dict[str, Any]:
    """The figures of one detector and seed."""
    study = STUDIES[name]
    plan = QUICK if quick else replace(PLAN, **{"validation": VALIDATION, **study.plan})
    if quick:
        backbone = "resnet10t" if study.backbone == "resnet18" else study.backbone
        study = replace(study, detector_steps=4, backbone=backbone)
    return study_detection.run(study, seed, plan, ROOT / "runs" / plan.folder / f"{name}-{seed}")


def classify(name: str, seed: int, quick: bool) -> dict[str, Any]:
    """The figures of one classifier and seed."""
    folder = ROOT / "runs" / ("study-quick" if quick else "study") / f"{name}-{seed}"
    plan = QUICK_CLASSIFIER_PLAN if quick else CLASSIFIER_PLAN
    return study_classification.run(seed, **plan, folder=folder)


def on_one_line(text: str) -> str:
    """JSON with each list of numbers on one line."""
    return re.sub(r"\[[^][{}\"]*\]", lambda found: " ".join(found[0].split()), text)


def main(words: Sequence[str] | None = None) -> None:
    """Runs what is missing, then writes the tables.

    Args:
        words: what else stands on the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*STUDIES, *CLASSIFIERS], help="one detector or classifier")
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean nothing")
    parser.add_argument("--tables", action="store_true", help="only write the tables of what is there")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "quantization", help="folder of the figures")
    arguments = parser.parse_args(words)
    every = [(name, seed) for name, study in STUDIES.items() for seed in study.seeds]
    every += [(name, seed) for name in CLASSIFIERS for seed in CLASSIFIER_SEEDS]
    chosen = [run for run in every if arguments.only in (None, run[0]) and arguments.seed in (None, run[1])]
    if not chosen:
        seeds = sorted({seed for name, seed in every if arguments.only in (None, name)})
        parser.error(f"{arguments.only or 'the study'} has the seeds {seeds}, not {arguments.seed}.")
    arguments.results.mkdir(parents=True, exist_ok=True)
    for name, seed in [] if arguments.tables else chosen:
        path = arguments.results / f"{name}-{seed}.json"
        if path.exists():
            continue
        legacy = CLASSIFIERS.get(name, not IS_KERAS_3)
        if legacy == IS_KERAS_3:  # a process has one Keras
            subprocess.run(
                [sys.executable, __file__, f"--only={name}", f"--seed={seed}", f"--results={arguments.results}"]
                + ["--quick"] * arguments.quick,
                env={**os.environ, "TF_USE_LEGACY_KERAS": "1" if legacy else "0"},
                check=True,
            )
            continue
        facts = detect(name, seed, arguments.quick) if name in STUDIES else classify(name, seed, arguments.quick)
        text = json.dumps({"study": name, "seed": seed, **facts}, indent=1)
        with written_whole(path) as temporary:
            temporary.write_text(on_one_line(text) + "\n", encoding="utf-8")
    if not arguments.quick:
        write_tables(arguments.results, DOCUMENT, [f"{name}-{seed}" for name, seed in every])


if __name__ == "__main__":
    main()
