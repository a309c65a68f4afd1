"""The command in a process of its own: closed and full standard output, ASCII terminals, what reaches which stream."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

import resnet_backbones as rb
from resnet_backbones.cli import app as cli
from resnet_backbones.cli.common import OPTIONS, with_options
from tests.support.processes import run_command


def shell(line, **environment):
    command = f"{sys.executable} -m resnet_backbones {line}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=env, check=False)


FULL = "Error: standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("words", ["list", "list --json", "doctor"])
@pytest.mark.parametrize(
    ("ending", "environment"),
    [
        (" | head -1", {}),
        (" | true", {}),
        (" > /dev/full", {}),
        (" >&-", {}),
        ("", {"PYTHONIOENCODING": "ascii"}),
        ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
)
def test_no_standard_output_ends_in_a_traceback(words, ending, environment):
    done = shell(words + ending, **environment)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if "full" in ending:
        assert done.stderr == FULL
        assert done.returncode == 1
    else:
        assert done.stderr == ""
        assert done.returncode == 0


@pytest.mark.parametrize("form", ["--jsonl", "--json", ""])
@pytest.mark.parametrize(("ending", "said"), [(" | head -1; exit ${PIPESTATUS[0]}", ""), (" > /dev/full", FULL)])
def test_predictions_that_cannot_be_printed_are_no_fault_of_a_file(form, ending, said, command_files):
    file, photos = command_files.folder / "classifier.tflite", command_files.folder / "photos"
    done = shell(f"predict {file} {photos} --recursive --no-draw --top 4 {form}{ending}")
    assert done.stderr == said
    assert done.returncode == 1 or not said


LARGE = {
    "export": "export b.keras Ü[x].tflite --precision float32",
    "convert": "convert b.npz Ü[x].npz --name tiny_net",
    "compare": "compare tiny_net --size 32 --runs 1 --budget-ms 1000",
}
STREAMS = ["nobody", "full", "ascii", "terminal"]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """(command, stream) -> exit code, standard output and error."""
    folder = tmp_path_factory.mktemp("streams")
    asked = [(line, stream) for line in LARGE.values() for stream in STREAMS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    child = [sys.executable, Path(__file__).with_name("streams_child.py")]
    done = subprocess.run(
        child, input=json.dumps(asked), capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return {(line.split()[0], stream): found for line, stream, *found in answers}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("command", LARGE)
def test_no_standard_output_ends_a_large_command_in_a_traceback(large, command, stream):
    code, out, errors = large[command, stream]
    assert "Traceback" not in out + errors
    assert "\x1b[3" not in out  # NO_COLOR, on a terminal
    assert code == (1 if stream in ("nobody", "full") else 0), errors
    if stream == "full":
        assert errors == FULL
    elif stream == "ascii":
        assert out.isascii()
        assert "tiny_net" in out or r"\xdc[x]" in out
    elif stream == "terminal":
        assert "tiny_net" in out or "Ü[x]" in out
    else:
        assert (out, errors) == ("", "")


NOISY = """
import atexit, os, subprocess, sys
import resnet_backbones as rb

def noise(when):
    print("noise", when)
    os.write(1, b"noise of native code\\n")
    sys.__stdout__.write("noise past sys.stdout\\n")
    subprocess.run(["echo", "noise of a child"])

@rb.register_backbone("noisy_net")
def noisy_net(**keywords):
    noise("when called")
    return rb.ResNetSpec(block="basic", depths=(1,), widths=(4,), stem_width=4)

noise("at import")
atexit.register(print, "noise at exit")
"""


@pytest.mark.parametrize("words", ["list --json", "info noisy_net --json", "doctor --json"])
def test_nothing_that_a_plugin_prints_is_among_the_json(words, tmp_path):
    (tmp_path / "noisy-1.0.dist-info").mkdir()
    (tmp_path / "noisy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: noisy\nVersion: 1.0\n")
    (tmp_path / "noisy-1.0.dist-info" / "entry_points.txt").write_text("[resnet_backbones.plugins]\nnoisy = noisy\n")
    (tmp_path / "noisy.py").write_text(NOISY)
    done = shell(words, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert done.returncode == 0
    assert json.loads(done.stdout)
    assert {
        "noise at import",
        "noise of native code",
        "noise of a child",
        "noise past sys.stdout",
        "noise at exit",
    } <= {*done.stderr.splitlines()}


def test_python_m_is_the_command():
    assert json.loads(shell("info resnet18 --json").stdout)["name"] == "resnet18"


def test_missing_files_are_named_before_anything_heavy_is_imported():
    lines = ("export no.keras o.tflite", "convert --name resnet18 no.npz o.npz", "check no.onnx", "benchmark no.onnx")
    for words in lines:
        done = shell(f"{words}; echo $?", PYTHONPROFILEIMPORTTIME="1")
        assert "There is no file or folder no." in done.stderr
        assert " tensorflow" not in done.stderr
        assert done.stdout == "1\n"


def test_list_suggests_near_names():
    result = run_command("list", "resnet5O")
    assert result.exit_code == 1
    assert "no backbone matches 'resnet5O'. Did you mean 'resnet56' or 'resnet50'" in result.stderr


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("pass calibration_data=images.", "pass --calibration-data."),
        ("give some as parity_data.", "give some as --parity-data."),
        ("layers=True compares", "--layers compares"),
        ("leave --calibration-data out", "leave --calibration-data out"),
        ("my_parity_data.npy", "my_parity_data.npy"),
        ("the layers behind", "the layers behind"),
        ("export it in float: precision='float32'.", "export it in float: --precision float32."),
        ("give input_shape=(512, 512, 3), or", "give --input-shape 512 512 3, or"),
        ("batch=4 or batch=None", "--batch 4 or --batch any"),
        ("or give format=.", "or give --format."),
        ("source='caffe' is not one of 'timm'", "--from caffe is not one of 'timm'"),
        ("num_threads=3 and top_k=2", "--threads 3 and --top 2"),
        ("create_backbone('x', preprocessing=None), ", "create_backbone('x', preprocessing=None), "),
        ("list_backbones() gives every name", "`resnet-backbones list` gives every name"),
    ],
)
def test_errors_are_in_the_commands_own_spelling(message, expected):
    assert with_options(message) == expected


def test_arguments_that_are_options_are_told_from_words():
    commands = typer.main.get_command(cli.app).commands
    options = {option for name in commands for one in commands[name].params for option in one.opts}
    assert {*OPTIONS.values()} <= options
    library = [rb.export_model, rb.runtime.load, rb.weights.load, rb.runtime.Model.predict]
    taken = {name for function in library for name in inspect.signature(function).parameters}
    assert {name for name in taken if f"--{name.replace('_', '-')}" in options} <= {*OPTIONS}


def test_greetings_of_native_libraries_are_dropped_and_their_errors_pass():
    code = """
import os, sys
from resnet_backbones.cli.streams import without_greetings
with without_greetings():
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n")
    os.write(2, b"I0000 00:00:1795847115.954379   26610 cudart_stub.cc:31] Could not find cuda drivers.\\n")
    os.write(2, b"E0000 00:00:1795847115.954379   26610 a.cc:31] an error\\nWARNING: of someone else\\n")
    print("Python's own INFO: line", file=sys.stderr)
    os.write(2, b"no line's end")
os.write(2, b"\\nINFO: after it\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert "INFO: after it" in lines
    assert "no line's end" in lines
    assert [line for line in lines if "INFO: Created" in line or "absl::" in line or line.startswith("I0000")] == []
    assert {"E0000 00:00:1795847115.954379   26610 a.cc:31] an error", "WARNING: of someone else"} < set(lines)
    assert "Python's own INFO: line" in lines


def test_standard_error_of_predict_and_convert_is_empty(command_files, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (file, *_) = command_files.folder.glob("*.tflite")
    done = shell(f"predict {file} {tmp_path / 'a.png'} --no-draw")
    assert (done.returncode, done.stderr) == (0, "")
    weights = tmp_path / "a.npz"
    rb.weights.save(rb.create_backbone("resnet10t", input_shape=(32, 32, 3)), weights)
    done = shell(f"convert --name resnet10t {weights} {tmp_path / 'b.npz'}")
    assert (done.returncode, done.stderr) == (0, "")
