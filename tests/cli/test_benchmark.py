"""``resnet-backbones benchmark``: each file on each runtime that can run it."""

from __future__ import annotations

import json

import numpy as np

from resnet_backbones.export.report.latency import time_in_turns
from resnet_backbones.runtime import load
from resnet_backbones.runtime.engines import choose
from tests.support.processes import run_command

RUNS = ("--threads", 1, "--runs", 3)


def paths(command_files):
    return [command_files.folder / "classifier.tflite", command_files.folder / "classifier.onnx"]


def test_each_file_runs_on_each_runtime_that_can(command_files):
    tflite, onnx = paths(command_files)
    result = run_command("benchmark", tflite, onnx, *RUNS, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    ran = {(row["file"], row["runtime"]) for row in told["latency_ms"]}
    engines = {tflite: ("litert", "openvino"), onnx: ("onnxruntime", "openvino")}
    assert ran == {(str(path), engine) for path, both in engines.items() for engine in both}
    for row in told["latency_ms"]:
        assert 0 < row["minimum"] <= row["median"]
        assert row["spread"] >= 0
        assert (row["runs"], row["threads"]) == (3, 1)
    assert told["not_run"] == []


def test_a_runtime_that_is_missing_is_named_with_what_brings_it(command_files, monkeypatch):
    def absent(path, threads):
        raise ImportError('This backend needs OpenVINO: pip install "resnet-backbones[openvino]".')

    monkeypatch.setitem(choose.BACKENDS, "openvino", (choose.BACKENDS["openvino"][0], absent))
    result = run_command("benchmark", paths(command_files)[0], *RUNS)
    assert result.exit_code == 0, result.output
    assert 'on openvino: This backend needs OpenVINO: pip install "resnet-backbones[openvino]".' in result.stdout
    assert "litert" in result.stdout


def test_files_that_nothing_runs_are_one_line(command_files, tmp_path):
    whole = paths(command_files)[0].read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "model.h5").write_bytes(b"")
    for name in ("cut.tflite", "model.h5", "gone.tflite"):
        result = run_command("benchmark", tmp_path / name, *RUNS)
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        (line,) = result.stderr.splitlines()
        assert name in line


def test_what_is_timed_is_what_predicts(command_files):
    """A prepared run gives the engine the same input as a call: seen from LiteRT's output after it."""
    model = load(paths(command_files)[0], num_threads=1)
    model.timer()()
    program = model._program
    detail = next(iter(program._outputs.values()))
    timed = program._interpreter.get_tensor(detail["index"]).copy()
    noise = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    model.raw(noise)
    np.testing.assert_array_equal(program._interpreter.get_tensor(detail["index"]), timed)


def test_runs_before_a_timed_one_are_not_counted():
    calls = []
    (entry,) = time_in_turns({"it": lambda: calls.append(1)}, 1, seconds=0, least=4, settle=2)
    assert entry.runs == 4
    assert len(calls) == 2 + 4 * 3  # warm-up, then twice untimed before each
