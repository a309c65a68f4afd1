"""Values that no option has: named before heavy imports, in the command's spelling, with near ones."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from resnet_backbones.export.formats import FORMATS, LAYOUTS, TARGETS
from resnet_backbones.runtime.engines.choose import BACKENDS
from resnet_backbones.runtime.feeding import RESIZES
from resnet_backbones.schemes import _SCHEMES
from resnet_backbones.weights.names import OWN, SOURCES
from resnet_backbones.weights.places import SAVED

CONVERT = "convert w.npz o.npz --name resnet10t"
# A line, an option of it and what that takes. ``{}`` in a line stands where the value goes, without an option.
ALLOWED = [
    *((f"export m.keras o{row.suffix}", "--precision", row.precisions) for row in FORMATS.values()),
    ("export m.keras o.tflite", "--format", tuple(FORMATS)),
    ("export m.keras o.onnx", "--target", TARGETS),
    ("export m.keras o.onnx", "--layout", LAYOUTS),
    ("export m.keras o.tflite --calibration-data m.keras", "--scheme", tuple(_SCHEMES)),
    ("export m.keras o.tflite", "--resize", RESIZES),
    ("export m.keras {}", "o", tuple(row.suffix for row in FORMATS.values() if row.suffix)),
    (CONVERT, "--from", tuple(name.replace("_", "-") for name in (*SOURCES, OWN))),
    (CONVERT, "--set", ("bn_epsilon=", "block=", "depths=", "activation=")),
    (CONVERT, "--set activation", ("relu", "silu", "hard_swish")),
    (CONVERT, "--set block", ("basic", "bottleneck")),
    (CONVERT, "--set attention", ("se", "eca", "cbam")),
    (CONVERT, "--name", ("resnet50", "darknet53")),
    ("convert w.npz {} --name resnet10t", "o", SAVED),
    ("predict m.tflite a.png", "--backend", tuple(BACKENDS)),
    ("predict m.tflite a.png", "--resize", RESIZES),
    ("compare {}", "", ("resnet50", "darknet53")),
    ("info {}", "", ("resnet50", "darknet53")),
]
# What an option cannot be there, and a part of what is said.
ELSEWHERE = [
    *(
        (f"export m.keras o{row.suffix} --{option} {value}", f"--{option} cannot be chosen for format '{row.name}'")
        for row in FORMATS.values()
        for option, value in {
            "target": "tensorrt", "layout": "NCHW", "batch": "4", "input-shape": "8 8 3", "preprocessing": "",
            "postprocessing": "", "layers": "", "latency": "",
        }.items()
        if option.replace("-", "_") not in row.options
    ),
    *(
        (f"export m.keras o{row.suffix} --precision {precision}", f"--precision {precision} cannot be chosen")
        for row in FORMATS.values()
        for precision in sorted({one for other in FORMATS.values() for one in other.precisions} - set(row.precisions))
    ),
    ("export m.keras o.keras --resize letterbox", "--resize is carried in a file's metadata"),
    ("export m.keras o.tflite --layers", "give some as --parity-data"),
    ("export m.keras o.tflite --calibration-data m.keras --precision float16", "--calibration-data is for"),
    ("export m.keras o.onnx --calibration-data m.keras --scheme edge_int16x8", "--scheme edge_int16x8 makes int16x8"),
    ("export m.keras o.tflite --calibration-data m.keras --scheme gpu_int8 --precision int16x8", "makes int8 files"),
    (f"{CONVERT} --set depths", "--set takes field=value"),
    (f"{CONVERT} --set depths=x", "depths must be a tuple"),
    (f"{CONVERT} --set widths=[4]", "describes 4 stages"),
    (f"{CONVERT} --set groups=7", "knows no groups"),
    (f"{CONVERT} --channels 0", "--channels"),
    ("convert m.keras.zip o.npz --name resnet10t", "weights come from a file ending in"),
    ("convert hf-hub:x o.npz --name resnet10t", "is no name on the Hugging Face Hub"),
    ("convert https://x/y.zip o.npz --name resnet10t", "weights come from a file ending in"),
    ("compare resnet18 --png a.jpg", "--png"),
    ("export m.keras o.tflite --report a.pdf", "--report"),
    ("benchmark m.keras", "give --backend"),
]  # fmt: skip
CHILD = """
import contextlib, io, json, sys
from typer.testing import CliRunner
from resnet_backbones.cli import app as cli
for line in json.load(sys.stdin):
    done = CliRunner().invoke(cli.app, line.split())
    heavy = sorted({"tensorflow", "keras", "tf_keras"} & set(sys.modules))
    print(json.dumps([done.exit_code, done.stdout, " ".join(done.stderr.split()), heavy]))
"""


def misspelt(value: str) -> str:
    """``resnet50`` -> ``resnett50``, ``.tflite`` -> ``.tfllite``."""
    middle = (len(value.rstrip("=")) + 1) // 2
    return value[:middle] + value[middle - 1] + value[middle:]


def mistyped() -> dict[str, tuple[str, str, str]]:
    """A line with one letter too many -> the option, the value as it should be, and as it was given."""
    lines = {}
    for line, option, values in ALLOWED:
        for value in values:
            wrong = misspelt(value)
            if "{}" in line:
                lines[line.format(option + wrong)] = ("", value, wrong)
            else:
                joined = "=" if " " in option else " "
                lines[f"{line} {option}{joined}{wrong}"] = (
                    option.partition(" ")[0],
                    value.strip("="),
                    wrong.strip("="),
                )
    return lines


MISTYPED = mistyped()


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Line -> exit code, standard output and error, and what was imported by then: all in one process."""
    folder = tmp_path_factory.mktemp("wrong")
    for name in ("m.keras", "m.tflite", "w.npz", "m.keras.zip", "a.png"):
        (folder / name).write_text("not read")
    lines = [*MISTYPED, *(line for line, _ in ELSEWHERE)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(lines), capture_output=True, text=True, check=True, cwd=folder
    )
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "m.keras", "m.keras.zip", "m.tflite", "w.npz"]
    return dict(zip(lines, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("line", MISTYPED)
def test_a_misspelt_value_is_named_with_the_right_one_before_heavy_imports(said, line):
    option, right, wrong = MISTYPED[line]
    code, out, error, heavy = said[line]
    assert heavy == []
    assert out == ""
    assert code == (2 if option == "--resize" else 1)
    assert wrong in error.replace("_", "-") or wrong in error
    assert repr(right) in error.replace("_", "-") or repr(right) in error or right in error
    python = {"--from": "source=", "--set": "settings="}.get(option, f"{option.strip('-')}=")
    assert not option.strip("-") or python not in error


@pytest.mark.parametrize(("line", "expected"), ELSEWHERE)
def test_what_a_line_cannot_have_is_said_before_heavy_imports(said, line, expected):
    code, out, error, heavy = said[line]
    assert (code in (1, 2), out, heavy) == (True, "", [])
    assert expected in error
