"""What works without TensorFlow, and without TFMOT; what does not says which line installs it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.support.processes import run_python, without

WITH_A_COMMAND_LINE = """
import resnet_backbones as rb
from typer.testing import CliRunner
from resnet_backbones.cli.app import app
"""
TENSORFLOW = ("tensorflow", "keras", "tf_keras", "keras_cv", "tensorflow_model_optimization")
NO_TENSORFLOW = without(*TENSORFLOW) + WITH_A_COMMAND_LINE
NO_TFMOT = without("tensorflow_model_optimization") + WITH_A_COMMAND_LINE
LINE = 'pip install "resnet-backbones[{}]"'


def test_without_tensorflow_names_and_commands_work_or_say_what_to_install(tmp_path):
    for name in ("a.keras", "a.npz"):
        (tmp_path / name).write_bytes(b"")
    code = """
for name in rb.__all__:
    try:
        getattr(rb, name)
    except ImportError as error:
        print(name, "|", error)
for words in (["list"], ["info", "resnet18"], ["doctor"]):
    assert CliRunner().invoke(app, words).exit_code == 0, words
folder = sys.argv[1]
for words in (
    ["export", f"{folder}/a.keras", f"{folder}/b.tflite"],
    ["convert", "--name", "resnet18", f"{folder}/a.npz", f"{folder}/b.npz"],
    ["compare", "resnet18"],
    ["doctor", "--run"],
):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1, (words, result.output)
    print(words[0], "|", *(result.stderr or result.stdout).split())
"""
    printed = dict(line.split(" | ") for line in run_python(NO_TENSORFLOW + code, tmp_path).splitlines())
    for name, message in printed.items():
        assert LINE.format("tensorflow") in message, name
    assert {"create_backbone", "quantize_aware", "TrainingBackup", "export_model"} <= {
        *printed,
        "create_backbone",
    }
    assert {"export", "convert", "compare", "doctor"} <= {*printed}
    assert not {"list_backbones", "backbone_info", "runtime", "register_backbone", "ResNetSpec"} & {*printed}


def test_without_tfmot_float_models_are_built_trained_and_exported(tmp_path):
    code = """
from pathlib import Path
import numpy as np
from resnet_backbones.keras_compat import keras
folder = Path(sys.argv[1])
spec = rb.ResNetSpec(block="basic", depths=(1,), widths=(8,), stem_width=8)
backbone = rb.create_backbone(spec, input_shape=(32, 32, 3))
for name in ("m.tflite", "m.keras", "m", "m.onnx"):
    assert rb.export_model(backbone, folder / name).passed, name
model = keras.Model(image := keras.layers.Input((4,)), keras.layers.Dense(1)(image))
model.compile("sgd", "mse")
model.fit(np.ones((4, 4)), np.ones((4, 1)), verbose=0, callbacks=[rb.TrainingBackup(folder / "backup")])
rb.weights.save(backbone, folder / "m.npz")
try:
    rb.quantize_post_training(backbone, calibration_data=np.zeros((1, 32, 32, 3), "float32"))
except ImportError as error:
    print(error)
"""
    assert LINE.format("quantization") in run_python(NO_TFMOT + code, tmp_path).splitlines()[-1]


def resolved(extras, name):
    """What an extra brings, those it names included."""
    for requirement in extras[name]:
        if requirement.startswith("resnet-backbones["):
            for other in requirement.partition("[")[2].rstrip("]").split(","):
                yield from resolved(extras, other)
        else:
            yield requirement


@pytest.mark.parametrize("extra", ["tensorflow", "keras-cv", "keras-hub", "quantization", "all", "examples", "test"])
def test_extras_that_need_tensorflow_bring_it_and_the_base_does_not(extra):
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    heavy = ("tensorflow>", "keras>", "tf_keras>")
    for package in heavy:
        assert any(one.startswith(package) for one in resolved(project["optional-dependencies"], extra))
        for light in ("runtime", "openvino", "images", "weights", "onnx", "plots", "torch"):
            assert not any(one.startswith(package) for one in resolved(project["optional-dependencies"], light))
        assert not any(one.startswith(package) for one in project["dependencies"])
