"""Gives damaged files to ``runtime.load`` and ``predict``: ``python -m tests.runtime.fuzz_files --count 500``.

Each case runs in a forked process of little memory and time that must write nothing. The same files are also given to
the engines directly, which shows what the runtime's checks prevent. Writes ``runs/fuzz.json``; with
``--document docs/reliability.md`` also the table there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from resnet_backbones import runtime
from tests.runtime.fuzz_cases import Case, make_case, read_files
from tests.runtime.fuzz_child import Outcome, run_in_child

KINDS = ("result", "error", "undocumented error", "crash", "timeout", "write")
#: An outcome of these is a fault of this library, whatever the file.
FAULTS = ("undocumented error", "timeout", "write")
START, END = "<!-- measured by tests/runtime/fuzz_files.py -->", "<!-- end -->"
#: Backend -> its distribution and the module to import
ENGINES = {
    "litert": ("ai-edge-litert", "ai_edge_litert.interpreter"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "openvino": ("openvino", "openvino"),
}


def use_runtime(path: Path, backend: str | None = None) -> None:
    """Loads a file and runs all of it, as a user would."""
    model = runtime.load(path, backend, num_threads=1)
    images = np.full((2, 40, 50, 3), 0.5, np.float32)
    if model.task in runtime.decoders.DECODERS:
        model.predict(images)
        model.predict(images, confidence=0.0, resize="letterbox")
    else:
        model.raw(images)


def use_engine(path: Path) -> None:
    """The same without this library."""
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        session.run(None, {given.name: np.zeros(shape, np.float32)})
        return
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
    for detail in interpreter.get_output_details():
        interpreter.get_tensor(detail["index"])


def run_cases(
    files: dict[str, bytes], count: int, seed: int, backend: str | None, direct: bool
) -> list[dict[str, Any]]:
    """Runs cases one by one.

    Args:
        files: whole files by name.
        count: of cases.
        seed: of the damage.
        backend: as ``runtime.load`` takes it.
        direct: whether engines are also given each file directly.

    Returns:
        One dictionary a case: the case without its data, and its outcomes.
    """
    rows = []
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "model"
        folder.mkdir()
        for number in range(count):
            case = make_case(number, files, seed)
            path = folder / f"case{Path(case.name).suffix}"
            path.write_bytes(case.data)
            row = describe(number, case, run_in_child(lambda path=path: use_runtime(path, backend), folder))
            if direct and case.target != "metadata":
                row["direct"] = run_in_child(lambda path=path: use_engine(path), folder).kind
            rows.append(row)
            path.unlink()
    return rows


def describe(number: int, case: Case, outcome: Outcome) -> dict[str, Any]:
    kept = {key: getattr(case, key) for key in ("target", "damage", "matching", "name")}
    return {"number": number, **kept, **vars(outcome)}


def table(rows: list[dict[str, Any]]) -> str:
    """Outcomes as Markdown."""
    lines = [
        f"| damaged | hash | files | {' | '.join(KINDS)} | crashes of the engine alone |",
        f"| --- | --- | ---: |{' ---: |' * (len(KINDS) + 1)}",
    ]
    groups = [(target, matching) for target in ("tflite", "onnx", "metadata") for matching in (False, True)]
    for target, matching in groups:
        chosen = [row for row in rows if (row["target"], row["matching"]) == (target, matching)]
        lines.append(_line(target, "matching" if matching else "as recorded", chosen))
    return "\n".join([*lines, _line("all", "", rows)])


def _line(target: str, matching: str, rows: list[dict[str, Any]]) -> str:
    counts = Counter(row["kind"] for row in rows)
    direct = [row["direct"] for row in rows if "direct" in row]
    alone = str(direct.count("crash")) if direct else ""
    return f"| {target} | {matching} | {len(rows)} | {' | '.join(str(counts[kind]) for kind in KINDS)} | {alone} |"


def write_table(document: Path, text: str) -> None:
    """Puts a table between the two marks of a document."""
    whole = document.read_text()
    head, _, rest = whole.partition(START)
    _, _, tail = rest.partition(END)
    document.write_text(f"{head}{START}\n{text}\n{END}{tail}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="number of damaged files (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    parser.add_argument(
        "--backend", choices=list(ENGINES), help="of all files; default: LiteRT and ONNX Runtime, by suffix"
    )
    parser.add_argument("--bases", type=Path, help="folder of whole files; default: makes its own, with TensorFlow")
    parser.add_argument("--json", type=Path, default=Path("runs/fuzz.json"), help="where the outcomes go")
    parser.add_argument("--document", type=Path, help="a Markdown file whose table is written anew")
    parser.add_argument("--no-direct", action="store_true", help="do not give the files to the engines directly")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        bases = options.bases
        if bases is None:
            bases = Path(folder)
            subprocess.run([sys.executable, "-m", "tests.runtime.fuzz_bases", folder], check=True, capture_output=True)
        files = read_files(bases)
    engines = [options.backend] if options.backend else ["litert", "onnxruntime"]
    for engine in engines:
        importlib.import_module(ENGINES[engine][1])  # once, before forking, so that a case costs milliseconds
    direct = not (options.no_direct or options.backend)
    rows = run_cases(files, options.count, options.seed, options.backend, direct)
    versions = ", ".join(f"{ENGINES[engine][0]} {version(ENGINES[engine][0])}" for engine in engines)
    text = f"{options.count} files, seed {options.seed}; {versions}\n\n{table(rows)}"
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"versions": versions, "seed": options.seed, "cases": rows}, indent=1))
    print(text)
    for row in rows:
        if row["kind"] in (*FAULTS, "crash"):
            print(f"{row['kind']}: case {row['number']}, {row['name']}, {row['damage']}: {row['detail']}")
    if options.document:
        write_table(options.document, text)
    return int(any(row["kind"] in FAULTS for row in rows))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
