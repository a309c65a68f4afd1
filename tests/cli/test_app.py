"""The command line: what it prints, what it exits with, what it imports."""

from __future__ import annotations

import json

import resnet_backbones as rb
from resnet_backbones.backbones import registry
from resnet_backbones.cli import doctor as cli_doctor
from tests.support.processes import run_command, run_python


def test_list_prints_every_backbone():
    result = run_command("list")
    assert result.exit_code == 0
    for name in rb.list_backbones():
        assert name in result.stdout


def test_list_keeps_what_matches_the_pattern():
    found = json.loads(run_command("list", "resnet18*", "--json").stdout)
    assert [one["name"] for one in found] == rb.list_backbones("resnet18*")
    assert found[0]["parameters"] == 11_176_512
    assert found[0]["levels"]["P3"] == {"channels": 128, "stride": 8}


def test_list_shows_cost_channels_and_int8():
    result = run_command("list", "resnet50")
    (row,) = (line for line in result.stdout.splitlines() if line.strip().startswith("resnet50"))
    figures = "resnet50 resnet 23.51 4.09 224 512 · 1024 · 2048 yes ResNet-50 (v1.5)"
    assert " ".join(row.split()) == figures


def test_list_keeps_a_family_and_what_is_quantizable():
    found = json.loads(run_command("list", "--family", "wide_resnet", "--quantizable", "--json").stdout)
    assert [one["name"] for one in found] == ["wide_resnet50_2", "wide_resnet101_2"]
    nothing = run_command("list", "--family", "wide_resnet", "--not-quantizable")
    assert nothing.exit_code == 1
    assert "no backbone matches '*' and is of the family and kind asked for" in nothing.stderr


def test_list_names_the_nearest_family_and_exits_with_1():
    result = run_command("list", "--family", "wideresnet")
    assert result.exit_code == 1
    assert "Did you mean 'wide_resnet'" in result.stderr


def test_list_says_so_and_exits_with_1_when_nothing_matches():
    result = run_command("list", "vgg*")
    assert result.exit_code == 1
    assert "no backbone matches 'vgg*'" in result.stderr
    assert result.stdout == ""


def test_info_shows_levels_and_the_call_that_builds_it():
    result = run_command("info", "resnet50")
    assert result.exit_code == 0
    for text in ("P3", "512", "bottleneck", "create_backbone('resnet50', input_shape=(224, 224, 3))"):
        assert text in result.stdout


def test_info_shows_paper_cost_preprocessing_and_weights():
    printed = " ".join(run_command("info", "resnet50").stdout.split())
    for text in (
        "paper He et al. 2015, https://arxiv.org/abs/1512.03385",
        "parameters 23.51 M (23,508,032), without a classifier",
        "GMACs 4.09 at 224x224",
        "int8 every operator has an int8 form",
        "preprocessing imagenet",
        "weights hf-hub:timm/resnet50.a1_in1k",
        "torchvision:ResNet50_Weights.IMAGENET1K_V2",
    ):
        assert text in printed


def test_info_names_the_activation_that_int8_lacks(monkeypatch):
    monkeypatch.setattr(registry, "_backbones", dict(registry._backbones))
    rb.register_backbone("selu_net", rb.ResNetSpec(activation="selu"))
    assert "no: LiteRT has no int8 form of selu" in run_command("info", "selu_net").stdout


def test_info_says_what_it_cannot_know(monkeypatch):
    monkeypatch.setattr(registry, "_backbones", dict(registry._backbones))
    rb.register_backbone("built_net", lambda input_shape: None)
    result = run_command("info", "built_net")
    assert result.exit_code == 0
    assert "known once it is built" in result.stdout


def test_info_as_json_holds_the_spec_and_the_levels():
    found = json.loads(run_command("info", "resnet50d", "--json").stdout)
    assert found["levels"]["P3"] == {"channels": 512, "stride": 8}
    assert rb.ResNetSpec.from_dict(found["spec"]) == rb.backbone_info("resnet50d").spec


def test_info_names_the_nearest_backbone_and_exits_with_1():
    result = run_command("info", "resnet5O")
    assert result.exit_code == 1
    assert "resnet50" in result.stderr
    assert result.stdout == ""


def test_doctor_reports_packages_and_finds_nothing_wrong_here():
    result = run_command("doctor", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0, report["problems"]
    versions = {one["package"]: one["version"] for one in report["packages"]}
    assert versions["tensorflow"]
    assert report["backbones"] == len(rb.list_backbones())


def test_doctor_runs_a_backbone_when_asked():
    result = run_command("doctor", "--run")
    assert result.exit_code == 0
    assert "resnet10t ran on" in result.stdout


def test_doctor_says_which_install_brings_what_is_missing(monkeypatch):
    gone = {"rich", "tensorflow", "ai-edge-litert"}
    installed = cli_doctor._installed
    monkeypatch.setattr(cli_doctor, "_installed", lambda package: None if package in gone else installed(package))
    result = run_command("doctor")
    assert result.exit_code == 1  # rich is needed, the others are not
    for extra in ("runtime", "tensorflow"):
        assert f'pip install "resnet-backbones[{extra}]"' in result.stdout
    assert "Problem: rich is missing: pip install resnet-backbones" in result.stdout
    assert "tensorflow is missing" not in result.stdout


def test_doctor_lists_what_only_some_machines_have_without_calling_it_a_problem(monkeypatch):
    monkeypatch.setattr(cli_doctor, "_installed", lambda package: None if package == "tensorrt" else "1.0")
    report = json.loads(run_command("doctor", "--json").stdout)
    (line,) = (one for one in report["packages"] if one["package"] == "tensorrt")
    assert line == {
        "package": "tensorrt", "version": None, "extra": None, "needed": False, "mend": "pip install tensorrt"
    }  # fmt: skip
    assert report["problems"] == []


def test_doctor_tells_which_keras_runs(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    assert json.loads(run_command("doctor", "--json").stdout)["keras"].startswith("tf_keras")
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    assert json.loads(run_command("doctor", "--json").stdout)["keras"] == "Keras 3"


def test_help_teaches_with_an_example():
    assert "resnet-backbones list" in run_command("list", "--help").stdout
    assert "resnet-backbones info" in run_command("info", "--help").stdout


def test_a_wrong_option_exits_with_2():
    assert run_command("list", "--jsn").exit_code == 2


def test_version_is_the_packages():
    assert run_command("--version").stdout == f"resnet-backbones {rb.__version__}\n"


def test_listing_on_the_command_line_imports_no_keras():
    script = (
        "import sys; from typer.testing import CliRunner; from resnet_backbones.cli import app as cli\n"
        "for line in (['list'], ['info', 'resnet18'], ['doctor']):\n"
        "    assert CliRunner().invoke(cli.app, line).exit_code == 0, line\n"
        "print(sorted({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules)))"
    )
    assert run_python(script) == "[]"
