"""The command in a process of its own: closed and full standard output, ASCII terminals, what reaches which stream."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from resnet_backbones.cli_common import _with_options
from tests.command_lines import run


def shell(line, **environment):
    command = f"{sys.executable} -m resnet_backbones {line}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=env, check=False)


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
        assert done.stderr == "Error: standard output cannot be written: No space left on device.\n"
        assert done.returncode == 1
    else:
        assert done.stderr == ""
        assert done.returncode == 0


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
    result = run("list", "resnet5O")
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
    ],
)
def test_errors_are_in_the_commands_own_spelling(message, expected):
    assert _with_options(message) == expected
