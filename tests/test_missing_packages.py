"""Every optional package, blocked: what needs it names the line that installs it, and nothing else needs it."""

from __future__ import annotations

import sys
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import resnet_backbones as rb
from resnet_backbones.cli import doctor as cli_doctor
from resnet_backbones.keras_compat import tfmot
from tests.cli.command_lines import ROOT
from tests.support.processes import run_command
from tests.weights.models import tiny

#: module -> the extra that brings it
EXTRAS = {
    "PIL": "images",
    "ai_edge_litert": "runtime",
    "huggingface_hub": "weights",
    "keras_cv": "keras-cv",
    "matplotlib": "plots",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "safetensors": "weights",
    "tensorflow_model_optimization": "quantization",
    "tf2onnx": "onnx",
    "torch": "torch",
}
PACKAGES = {"PIL": "pillow", "keras_cv": "keras-cv"}  # where pip's name is another
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
SPEC = rb.ResNetSpec(block="basic", depths=(1,), widths=(4,), stem_width=4)
HUB = "hf-hub:timm/resnet18.a1_in1k"
LITERT, TFMOT = "ai_edge_litert", "tensorflow_model_optimization"
ONNX = ("onnx", "onnxruntime", "tf2onnx")


def net():
    return rb.create_backbone(SPEC, input_shape=(32, 32, 3))


def command(*words):
    result = run_command(*words)
    if result.exit_code:
        raise ImportError(" ".join(result.output.split())) from result.exception
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models, files and a result to try every function on."""
    folder = tmp_path_factory.mktemp("made")
    plain, task = net(), rb.adapters.keras_cv.image_classifier(net(), num_classes=3)
    quantized = rb.quantize_post_training(net(), calibration_data=IMAGES)
    for name, model in (("plain", plain), ("task", task), ("quantized", quantized)):
        model.save(folder / f"{name}.keras")
    rb.export_model(task, folder / "x.onnx")
    report = rb.export_model(task, folder / "x.tflite")
    rb.weights.save(plain, folder / "x.safetensors")
    rb.weights.save(rb.create_backbone("resnet20", input_shape=(32, 32, 3)), folder / "x.npz")
    (folder / "x.pt").touch()
    (folder / "photos").mkdir()
    Image.fromarray(IMAGES[0].astype("uint8")).save(folder / "photos" / "a.png")
    runs = rb.runtime.load(folder / "x.tflite")
    return SimpleNamespace(
        folder=folder, plain=plain, quantized=quantized, report=report, runs=runs, result=runs.predict(IMAGES)[0]
    )


#: what -> (modules it needs, the call)
CALLS = {
    "adapter": (("keras_cv",), lambda m: rb.adapters.keras_cv),
    "load_model of a task": (("keras_cv",), lambda m: rb.load_model(m.folder / "task.keras")),
    "load_model of a quantized model": ((TFMOT,), lambda m: rb.load_model(m.folder / "quantized.keras")),
    "load_model of a backbone": ((), lambda m: rb.load_model(m.folder / "plain.keras")),
    "quantize_aware": ((TFMOT,), lambda m: rb.quantize_aware(net(), calibration_data=IMAGES)),
    "quantize_post_training": ((TFMOT,), lambda m: rb.quantize_post_training(net(), calibration_data=IMAGES)),
    "export .tflite": ((LITERT,), lambda m: rb.export_model(m.quantized, m.folder / "o.tflite")),
    "export .onnx": (ONNX, lambda m: rb.export_model(m.plain, m.folder / "o.onnx")),
    "export .keras": ((), lambda m: rb.export_model(m.plain, m.folder / "o.keras")),
    "export a folder": ((), lambda m: rb.export_model(m.plain, m.folder / "o")),
    "tensorrt.check": (("onnx",), lambda m: rb.export.tensorrt.check(m.folder / "x.onnx")),
    "report.save .md": (("matplotlib",), lambda m: m.report.save(m.folder / "o.md")),
    "report.save .json": ((), lambda m: m.report.save(m.folder / "o.json")),
    "runtime.load .tflite": ((LITERT,), lambda m: rb.runtime.load(m.folder / "x.tflite").raw(IMAGES[:1])),
    "runtime.load .onnx": (("onnxruntime",), lambda m: rb.runtime.load(m.folder / "x.onnx").raw(IMAGES[:1])),
    "runtime.load openvino": (("openvino",), lambda m: rb.runtime.load(m.folder / "x.onnx", "openvino")),
    "predict an array": ((), lambda m: m.runs.predict(IMAGES)),
    "predict a picture": (("PIL",), lambda m: m.runs.predict([m.folder / "photos" / "a.png"])),
    "draw": (("PIL",), lambda m: m.result.draw(IMAGES[0])),
    "weights.load .pt": (("torch",), lambda m: rb.weights.load(tiny(), m.folder / "x.pt")),
    "weights.load .safetensors": (("safetensors",), lambda m: rb.weights.load(net(), m.folder / "x.safetensors")),
    "weights.save .safetensors": (("safetensors",), lambda m: rb.weights.save(m.plain, m.folder / "o.safetensors")),
    "weights.save .npz": ((), lambda m: rb.weights.save(m.plain, m.folder / "o.npz")),
    "weights.load from the Hub": (("huggingface_hub",), lambda m: rb.weights.load(net(), HUB)),
    "create_backbone from the Hub": (("huggingface_hub",), lambda m: rb.create_backbone("resnet18", weights=HUB)),
    "list": ((), lambda m: command("list")),
    "info": ((), lambda m: command("info", "resnet18")),
    "doctor": ((), lambda m: command("doctor")),
    "check": (("onnx",), lambda m: rb.export.tensorrt.check(m.folder / "x.onnx")),
    "predict": (
        (LITERT, "PIL"),
        lambda m: command("predict", m.folder / "x.tflite", m.folder / "photos", "--out", m.folder / "drawn"),
    ),
    "predict .onnx": (
        ("onnxruntime", "PIL"),
        lambda m: command("predict", m.folder / "x.onnx", m.folder / "photos", "--no-draw"),
    ),
    "benchmark": ((), lambda m: command("benchmark", m.folder / "x.tflite", "--runs", "1")),
    "export command .tflite": (
        ("keras_cv", LITERT),
        lambda m: command("export", m.folder / "task.keras", m.folder / "c.tflite"),
    ),
    "export command .onnx": (ONNX, lambda m: command("export", m.folder / "plain.keras", m.folder / "c.onnx")),
    "export command, photos": (
        ("PIL", TFMOT, LITERT),
        lambda m: command(
            "export", m.folder / "plain.keras", m.folder / "d.tflite", "--calibration-data", m.folder / "photos"
        ),
    ),
    "export command, report .md": (
        ("matplotlib",),
        lambda m: command("export", m.folder / "plain.keras", m.folder / "e.keras", "--report", m.folder / "e.md"),
    ),
    "convert .npz": (
        ("safetensors",),
        lambda m: command("convert", "--name", "resnet20", m.folder / "x.npz", m.folder / "f.safetensors"),
    ),
    "convert .pt": (
        ("torch",),
        lambda m: command("convert", "--name", "resnet20", "--skip-mismatch", m.folder / "x.pt", m.folder / "f.npz"),
    ),
    "convert from the Hub": (
        ("huggingface_hub",),
        lambda m: command("convert", "--name", "resnet18", HUB, m.folder / "f.npz"),
    ),
    "compare --png": (
        ("matplotlib", TFMOT, LITERT),
        lambda m: command("compare", "resnet20", "--size", "32", "--runs", "1", "--png", m.folder / "c.png"),
    ),
}
#: Only a network, or torch, which these tests do not install, would tell whether these work.
NOT_TRIED = {name for name in CALLS if "Hub" in name or ".pt" in name}
#: What something else replaces: OpenVINO runs a .tflite, too; matplotlib brings Pillow.
ALSO = {"benchmark": LITERT, "report.save .md": "PIL", "export command, report .md": "PIL", "compare --png": "PIL"}


@pytest.fixture
def block(monkeypatch):
    """A function that makes packages as if they were not installed, until the test ends."""

    def absent(*names):
        for name in list(sys.modules):
            if name.partition(".")[0] in names:
                monkeypatch.setitem(sys.modules, name, None)
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
        if "keras_cv" in names:  # its adapter is loaded again, as in a new process
            monkeypatch.delitem(sys.modules, "resnet_backbones.adapters.keras_cv", raising=False)
            monkeypatch.delattr(rb.adapters, "keras_cv", raising=False)
        if TFMOT in names:
            tfmot.tfmot_quantizers.cache_clear()

    yield absent
    tfmot.tfmot_quantizers.cache_clear()


@pytest.mark.parametrize(
    ("what", "module"), [(what, module) for what, (modules, _) in CALLS.items() for module in modules]
)
def test_what_needs_a_package_names_the_line_that_installs_it(what, module, made, block):
    block(module)
    with pytest.raises(ImportError) as caught:
        CALLS[what][1](made)
    assert f'pip install "resnet-backbones[{EXTRAS[module]}]"' in str(caught.value)


@pytest.mark.parametrize("what", [what for what in CALLS if what not in NOT_TRIED])
def test_nothing_needs_a_package_that_is_not_named(what, made, block):
    modules, call = CALLS[what]
    block(*{*EXTRAS} - {*modules, ALSO.get(what)})
    call(made)


def test_the_extras_named_bring_the_packages_and_doctor_knows_them():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for module, extra in EXTRAS.items():
        package = PACKAGES.get(module, module).replace("_", "-")
        assert any(line.replace("_", "-").startswith(package) for line in extras[extra]), (module, extra)
        assert package in [one.replace("_", "-") for one in cli_doctor.PACKAGES[extra]]
