"""Every quantizable name of the catalogue, post-training quantized and exported: what operators the file holds.

Each network is built at full depth and width for small images, with random weights and random batch norms, calibrated
on patches of photographs, exported to LiteRT, and the file is read back. Results go to docs/int8_catalogue.json one by
one; what stands there is not done again. The table goes to docs/int8_catalogue.md. To convert the largest,
resnext101_32x32d with 466 million parameters, takes more than 24 GB of memory and swap, and glibc set to give back.

    python -m tests.export.int8_catalogue                   # about an hour on one core
    python -m tests.export.int8_catalogue "resnet50*" "mobilenetv2*"
    MALLOC_MMAP_THRESHOLD_=65536 python -m tests.export.int8_catalogue resnext101_32x32d
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import randomise

ROOT = Path(__file__).resolve().parents[2]
# What must not be float: LiteRT's names of convolutions, additions, multiplications and pooling.
MUST_BE_INT8 = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"),
    *("ADD", "MUL", "SUB", "MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D"),
)


def photograph_patches(size: int, count: int = 8, every: int = 2) -> np.ndarray:
    """(count, size, size, 3) patches of scikit-learn's photographs, -1 to 1, made of every so many pixels."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    patches = []
    for number in range(count):
        photograph = load_sample_images().images[number % 2]
        top, left = (random.integers(0, length - every * size) for length in photograph.shape[:2])
        patches.append(photograph[top : top + every * size : every, left : left + every * size : every])
    return np.stack(patches).astype("float32") / 127.5 - 1.0


def quantized(name: str, scheme: str) -> tuple[Any, np.ndarray]:
    """A backbone with random weights, post-training quantized for small images; and those images.

    Args:
        name: a registered name.
        scheme: a quantization scheme.
    """
    size = 32 if rb.backbone_info(name).input_size <= 32 else 64
    images = photograph_patches(size)
    keras.utils.set_random_seed(0)
    backbone = randomise(rb.create_backbone(name, input_shape=(size, size, 3)))
    return rb.quantize_post_training(backbone, scheme, calibration_data=images), images


def int8_facts(name: str) -> dict[str, Any]:
    """Quantizes one backbone, exports it and reads the file.

    Args:
        name: a registered name.

    Returns:
        The image size, the file's size in MB, its multiply-accumulates in millions, its operators, those that must be
        int8 and are not, kernels that are not in the file or differ from Keras', what its report does not let pass, and
        the worst cosine and share within two steps of its levels against Keras.
    """
    start = time.process_time()
    backbone, images = quantized(name, "edge_int8")
    with tempfile.TemporaryDirectory() as folder:
        report = rb.export_model(backbone, Path(folder) / "model.tflite", parity_data=images[:2])
    operators = {f"{kind} {dtype}": count for (kind, dtype), count in sorted(report.operators.items())}
    floats = {f"{op.kind} {op.dtype}" for op in report.census.not_int8() if op.kind in MUST_BE_INT8}
    facts = {
        "size": images.shape[1],
        "megabytes": report.size_bytes / 1e6,
        "mega_macs": report.census.macs / 1e6,
        "operators": operators,
        "not_int8": sorted(floats),
        "kernels_missing": report.kernels.missing,
        "kernels_different": report.kernels.different,
        "report_failures": report.failures,
        "cosine": min(entry.cosine for entry in report.parity),
        "within_two_steps": min(entry.within_two_steps for entry in report.parity),
        "cpu_s": time.process_time() - start,
    }
    del backbone, report
    keras.backend.clear_session()
    gc.collect()
    return facts


def tensorrt_facts(name: str) -> dict[str, Any]:
    """Quantizes one backbone for TensorRT, exports it and checks the file.

    Args:
        name: a registered name.

    Returns:
        What TensorRT's rules have against the file, kernels that are not in it or differ from Keras', its int8 share of
        multiply-accumulates, and the worst cosine of its levels against Keras.
    """
    backbone, images = quantized(name, "gpu_int8")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        report = rb.export_model(backbone, path, target="tensorrt", parity_data=images[:2])
        errors = [f"{one.rule}: {one.node}" for one in rb.export.tensorrt.check(path).of("error")]
    facts = {
        "errors": errors,
        "kernels_missing": report.kernels.missing,
        "kernels_different": report.kernels.different,
        "int8_share": report.int8_mac_share,
        "cosine": min(entry.cosine for entry in report.parity),
    }
    del backbone, report
    keras.backend.clear_session()
    gc.collect()
    return facts


def quantizable_names() -> list[str]:
    """The catalogue's names whose operators all have an int8 form, small networks first."""
    names = rb.list_backbones(quantizable=True)
    return sorted(names, key=lambda name: (rb.backbone_info(name).parameters or 0, name))


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    failed = {name: facts["not_int8"] for name, facts in results.items() if facts["not_int8"]}
    missing = [name for name in quantizable_names() if name not in results]
    lines = [
        "# The catalogue in int8",
        "",
        "Made by `python -m tests.export.int8_catalogue`: every quantizable name at full depth and width, random",
        "weights and batch norms, small images, calibrated on patches of photographs, exported with `edge_int8`",
        "and read back. With random weights the last columns, the worst level against Keras, say how rounding adds",
        "up, not how well a trained network would do.",
        "",
        f"{len(results)} names; a float convolution, addition, multiplication or pooling in: {len(failed) or 'none'}.",
        *([f"Not done yet: {len(missing)}: {', '.join(missing)}."] if missing else []),
        "",
        "| name | px | MB | million MACs | operators | not int8 | cosine | within 2 steps |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for name in sorted(results):
        facts = results[name]
        lines.append(
            f"| {name} | {facts['size']} | {facts['megabytes']:.2f} | {facts['mega_macs']:.0f} | "
            f"{sum(facts['operators'].values())} | {', '.join(facts['not_int8']) or '-'} | {facts['cosine']:.5f} | "
            f"{100 * facts['within_two_steps']:.1f} % |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Does what is missing, then writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], help="names to do, as in list_backbones")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "int8_catalogue.json")
    parser.add_argument("--table", type=Path, default=ROOT / "docs" / "int8_catalogue.md")
    arguments = parser.parse_args()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    wanted = {name for pattern in arguments.patterns for name in rb.list_backbones(pattern)}
    todo = [name for name in quantizable_names() if name in wanted and name not in results]
    for name in (progress := tqdm(todo, unit="name")):
        progress.set_postfix_str(name)
        results[name] = int8_facts(name)
        temporary = arguments.results.with_suffix(".part")
        temporary.write_text(json.dumps(results, indent=1))
        temporary.replace(arguments.results)
    arguments.table.write_text(table(results))
    print(f"{len(results)} names in {arguments.table}")


if __name__ == "__main__":
    main()
