"""The example plug-in, installed by pip into an environment of its own, is used by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "examples" / "plugin_package"
# What an interpreter outside any checkout sees: no variable of this process may lend it the plug-in.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a fresh environment with the plug-in installed; this one's packages are seen from there."""
    home = tmp_path_factory.mktemp("plugin")
    environment = home / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    interpreter = environment / "bin" / "python"
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(
        subprocess.run([interpreter, "-c", purelib], capture_output=True, text=True, check=True).stdout.strip()
    )
    here = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (packages / "outer.pth").write_text("\n".join(dict.fromkeys(here)) + "\n")
    source = home / "source"  # a copy: building leaves files behind
    subprocess.run(["cp", "-R", str(PACKAGE), str(source)], check=True)
    subprocess.run(["find", str(source), "-name", "__pycache__", "-prune", "-exec", "rm", "-rf", "{}", "+"], check=True)
    command = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--no-build-isolation", "--no-index", "--disable-pip-version-check", str(source)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return interpreter


def run(python, code, folder):
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_an_installed_plugin_is_listed_and_described_without_keras(python, tmp_path):
    code = """
import json, sys
import resnet_backbones as rb
info = rb.backbone_info("sr18")
heavy = "keras" in sys.modules or "tensorflow" in sys.modules
names = rb.list_backbones(family="separable")
print(json.dumps([names, info.owner, info.parameters, info.levels["P5"], info.quantizable, heavy]))
"""
    names, owner, parameters, last, quantizable, heavy = json.loads(run(python, code, tmp_path))
    assert names == ["sepresnet18", "sepresnet34"]
    assert owner == "plug-in 'separable' of package 'resnet-backbones-separable'"
    assert 1_000_000 < parameters < 3_000_000
    assert last == [512, 32]
    assert quantizable is True
    assert heavy is False


def test_an_installed_plugin_is_the_backbone_of_a_detector(python, tmp_path):
    code = """
import numpy as np
import resnet_backbones as rb
backbone = rb.create_backbone("sepresnet18", input_shape=(64, 64, 3))
detector = rb.adapters.keras_cv.retinanet(backbone, num_classes=3, bounding_box_format="xywh", head_depth=1)
outputs = detector(np.zeros((1, 64, 64, 3), "float32"))
blocks = sum("depthwise" in layer.name for layer in backbone.layers)
print(backbone.count_params() > rb.backbone_info("sepresnet18").parameters, blocks, *outputs["classification"].shape)
"""
    assert run(python, code, tmp_path) == "True 16 1 774 3"
