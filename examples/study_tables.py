"""The tables of the quantization study, from the figures of its runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study_intervals import interval

from resnet_backbones._util.files import written_whole

BEGIN, END = "<!-- study: begin -->", "<!-- study: end -->"
COLUMNS = {
    "float": "float",
    "control": "float, trained on",
    "converter_int8": "converter's own int8",
    "post_training_int8": "post-training int8",
    "aware": "QAT in Keras",
    "exported": "QAT, exported",
}
# Of each scheme: trained, in Keras, and the file made of it.
SCHEMES = {
    "`edge_int8`, LiteRT": ("aware", "exported"),
    "`edge_int8`, ONNX Runtime's form": ("aware", "exported_onnx"),
    "`portable_int8`, LiteRT": ("aware_portable", "exported_portable"),
    "`portable_int8`, TensorRT's form": ("aware_portable_view", "exported_portable_onnx"),
    "`gpu_int8`, TensorRT's form": ("aware_gpu", "exported_gpu_onnx"),
}
# What the study is asked to show: the paired differences, in points of mAP50, and their bounds.
BOUNDS = {"exported - QAT in Keras, unsigned": "at most 0.2", "QAT - control": "at least -0.3"}
BOUNDS["QAT - better post-training"] = "at least -0.1"


def differences(results: dict[str, dict[str, Any]], points: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """The paired differences of one run, in points of mAP50; the first is signed here.

    Args:
        results: figures by column.
        points: takes a column's mAP50, or its resampled figures as an array, from its figures.
    """
    post_training = max(("converter_int8", "post_training_int8"), key=lambda name: results[name]["map50"])
    pairs = (("exported", "aware"), ("aware", "control"), ("aware", post_training))
    return {name: points(results[a]) - points(results[b]) for name, (a, b) in zip(BOUNDS, pairs, strict=True)}


def difference_cells(runs: list[dict[str, Any]]) -> list[str]:
    """The differences of one detector: the mean over its seeds, and how sure it is.

    In brackets, the 95 % interval over resampled images (the same ones in each seed's run); after it, of several seeds,
    the half width of the 95 % interval of the mean over seeds (Student's t).
    """
    found = [differences(run["results"], lambda one: one["map50"]) for run in runs]
    resampled = None
    if all("resampled_map50" in figures for run in runs for figures in run["results"].values()):
        resampled = [differences(run["results"], lambda one: np.asarray(one["resampled_map50"])) for run in runs]
    cells = []
    for number, name in enumerate(BOUNDS):
        values = [one[name] for one in found]
        mean = np.mean(np.abs(values)) if number == 0 else np.mean(values)
        cell = f"{mean:.2f}" if number == 0 else f"{mean:+.2f}"
        if resampled is not None:
            low, high = interval(np.mean([one[name] for one in resampled], axis=0))
            cell += f" [{low:+.2f}, {high:+.2f}]"
        if len(values) > 1:
            cell += f" ± {half_width(values):.2f}"
        cells.append(cell)
    return cells


def half_width(values: list[float]) -> float:
    """Half the 95 % interval of the mean (Student's t)."""
    from scipy.stats import t  # type: ignore[import-untyped]

    return float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def detection_tables(runs: list[dict[str, Any]]) -> str:
    """Every run a row, then the differences a detector a row."""
    lines = [
        "mAP50 in points of 100; every column decoded by KerasCV.",
        "",
        "| detector | seed | images | " + " | ".join(COLUMNS.values()) + " | int8 share of MACs |",
        "| --- | ---: | ---: |" + " ---: |" * (len(COLUMNS) + 1),
    ]
    for run in runs:
        cells = " | ".join(f"{run['results'][key]['map50']:.2f}" for key in COLUMNS)
        lines.append(
            f"| {run['study']} | {run['seed']} | {run['validation_images']} | {cells} | "
            f"{100 * run['results']['exported']['int8_mac_share']:.2f} % |"
        )
    lines += [
        "",
        "Paired differences in points of mAP50, mean over seeds. In brackets the 95 % interval over resampled",
        "validation images (paired bootstrap; of the signed difference); after ±, half that over seeds (Student's t).",
        "",
        "| detector | seeds | " + " | ".join(BOUNDS) + " |",
        "| --- | ---: |" + " --- |" * len(BOUNDS),
        "| asked for | | " + " | ".join(BOUNDS.values()) + " |",
    ]
    for study in dict.fromkeys(run["study"] for run in runs):
        found = [run for run in runs if run["study"] == study]
        lines.append(f"| {study} | {len(found)} | " + " | ".join(difference_cells(found)) + " |")
    return "\n".join(lines)


def scheme_table(runs: list[dict[str, Any]]) -> str:
    """A detector and scheme a row: QAT in Keras and the file, mean over seeds, and how far apart the two are."""
    lines = [
        "The same checkpoint trained with each scheme: mAP50, mean over seeds. Last, how far the file is from the",
        "Keras model it was made of: mean over seeds, no signs; in brackets the 95 % interval of the signed difference",
        "(paired bootstrap). Asked for: at most 0.2.",
        "",
        "| detector | scheme, file | seeds | QAT in Keras | file | difference |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for study in dict.fromkeys(run["study"] for run in runs):
        for scheme, (keras_name, file_name) in SCHEMES.items():
            found = [run["results"] for run in runs if run["study"] == study and file_name in run["results"]]
            if not found:
                continue
            pairs = np.array([[one[name]["map50"] for name in (keras_name, file_name)] for one in found])
            resampled = [
                np.subtract(*(one[name]["resampled_map50"] for name in (file_name, keras_name))) for one in found
            ]
            low, high = interval(np.mean(resampled, axis=0))
            apart = np.abs(pairs[:, 1] - pairs[:, 0]).mean()
            means = " | ".join(f"{mean:.2f}" for mean in pairs.mean(axis=0))
            lines.append(f"| {study} | {scheme} | {len(found)} | {means} | {apart:.2f} [{low:+.2f}, {high:+.2f}] |")
    return "\n".join(lines)


def classification_tables(runs: list[dict[str, Any]]) -> str:
    """A way of quantizing a row, a Keras a pair of columns: mean accuracy over the seeds, and the ratio in dB."""
    studies = {
        study: [run for run in runs if run["study"] == study] for study in dict.fromkeys(r["study"] for r in runs)
    }
    counts = {
        study: f"{found[0]['keras']}, {found[0]['shortcut']} shortcuts, {len(found)} seeds"
        for study, found in studies.items()
    }
    lines = [
        f"Accuracy in points of 100 on {runs[0]['validation_images']} images, mean over seeds (each seed); and the",
        "ratio of signal to quantization noise of the logits against the float checkpoint, mean.",
        "",
        "| resnet20, digits of 32 px | " + " | ".join(f"{count} | dB" for count in counts.values()) + " |",
        "| --- |" + " --- | ---: |" * len(studies),
    ]
    for way in dict.fromkeys(way for run in runs for way in run["classification"]):
        cells = []
        for found in studies.values():
            facts = [run["classification"][way] for run in found if way in run["classification"]]
            accuracies = [fact["accuracy"] for fact in facts]
            noise = [fact["sqnr_db"] for fact in facts if fact["sqnr_db"] is not None]
            each = ", ".join(f"{accuracy:.1f}" for accuracy in accuracies)
            cells.append(f"{np.mean(accuracies):.2f} ({each})" if facts else "")
            cells.append(f"{np.mean(noise):.1f}" if noise else "")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def file_table(runs: list[dict[str, Any]]) -> str:
    """A file a row: accuracy, the share of images given the Keras model's class, whether its report passes."""
    lines = [
        "Each file of a trained classifier: accuracy, and the share of images with the class that the Keras model it",
        "was made of gives (asked for: at least 99.5 %); mean over runs (the least).",
        "",
        "| file | runs | accuracy | same class | reports passed |",
        "| --- | ---: | ---: | --- | ---: |",
    ]
    for file in dict.fromkeys(file for run in runs for file in run["files"]):
        found = [run["files"][file] for run in runs if file in run["files"]]
        same = [one["same_class"] for one in found]
        accuracy = np.mean([one["accuracy"] for one in found])
        passed = sum(not one["report_failures"] for one in found)
        lines.append(f"| {file} | {len(found)} | {accuracy:.2f} | {np.mean(same):.2f} ({min(same):.1f}) | {passed} |")
    return "\n".join(lines)


def write_tables(results: Path, document: Path, expected: Sequence[str]) -> None:
    """Puts the tables of the runs that have ended between the document's markers, and says which have not.

    Args:
        results: folder of the runs' figures.
        expected: names of all runs, as their files are called.
        document: a Markdown file that has the two markers, in lines of their own.

    Raises:
        ValueError: the markers are missing.
    """
    ended = [name for name in expected if (results / f"{name}.json").exists()]
    runs = [json.loads((results / f"{name}.json").read_text(encoding="utf-8")) for name in ended]
    detection = [run for run in runs if "results" in run]
    text = document.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{document} lacks the lines {BEGIN!r} and {END!r}, between which the tables go.")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    classification = [run for run in runs if "classification" in run]
    parts = [detection_tables(detection), scheme_table(detection)] if detection else []
    parts += [classification_tables(classification)] if classification else []
    parts += [file_table(with_files)] if (with_files := [run for run in classification if run.get("files")]) else []
    missing = [name for name in expected if name not in ended]
    parts += [f"Not run yet: {', '.join(missing)}."] if missing else []
    tables = "\n\n".join(parts)
    with written_whole(document) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")
