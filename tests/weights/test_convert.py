"""``resnet-backbones convert``, on local files."""

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.cli.app import parse_overrides
from resnet_backbones.weights.files import convert
from resnet_backbones.weights.names import find_names
from resnet_backbones.weights.targets import find_target
from tests.support.nets import assert_same, values
from tests.support.processes import run_command
from tests.weights.models import randomise_all_but_kernels, timm_state, tiny

TIMM = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}


@pytest.fixture(scope="module")
def resnet10t():
    return randomise_all_but_kernels(rb.create_backbone("resnet10t"))


@pytest.fixture
def timm_file(resnet10t, tmp_path):
    """The weights of resnet10t as timm would write them, with a classifier."""
    import safetensors.numpy

    layer_name, _ = find_names("timm", resnet10t.spec)
    state = {"fc.weight": np.zeros((10, 512), "float32"), "fc.bias": np.zeros(10, "float32")}
    for slot in find_target(resnet10t).slots():
        value = slot.value.transpose(3, 2, 0, 1) if slot.kind == "Conv2D" else slot.value
        state[f"{layer_name(slot.layer, resnet10t.spec)}.{TIMM.get(slot.weight, 'running_var')}"] = value.copy()
    safetensors.numpy.save_file(state, tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors"


@pytest.mark.parametrize("ending", ["weights.h5", "safetensors", "npz"])
def test_timms_weights_are_converted(timm_file, resnet10t, tmp_path, ending):
    out = tmp_path / f"ours.{ending}"
    result = run_command("convert", "--from", "timm", "--name", "resnet10t", timm_file, out)
    assert result.exit_code == 0, result.output
    assert "arrays, " in result.stdout
    assert f"{resnet10t.count_params():,} parameters of resnet10t" in result.stdout
    assert_same(values(rb.create_backbone("resnet10t", weights=out)), values(resnet10t))


def test_the_source_is_told_by_the_names_and_the_spec_can_be_changed(timm_file, tmp_path):
    out = tmp_path / "ours.npz"
    result = run_command("convert", "--name", "resnet10t", "--set", "activation=silu", "--channels", 1, timm_file, out)
    assert result.exit_code == 0, result.output
    rb.create_backbone("resnet10t", input_shape=(None, None, 1), weights=out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name", "resnet18", "theirs.safetensors", "out.npz"), "does not fit backbone 'resnet18'"),
        (("--name", "resnet1O", "theirs.safetensors", "out.npz"), "resnet10"),
        (("--name", "resnet10t", "absent.safetensors", "out.npz"), "There is no file or folder"),
        (("--name", "resnet10t", "theirs.safetensors", "out.pb"), "weights are written to a file ending in"),
        (("--name", "resnet10t", "--from", "caffe", "theirs.safetensors", "out.npz"), "--from caffe is not one of"),
        (("--name", "resnet10t", "--set", "stem", "theirs.safetensors", "out.npz"), "--set takes field=value"),
        (("--name", "resnet10t", "--set", "colour=1", "theirs.safetensors", "out.npz"), "has no field 'colour'"),
    ],
)
def test_what_cannot_be_converted_is_said_and_exits_with_1(timm_file, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run_command("convert", *arguments)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == [timm_file.name]


def test_settings_are_json_or_text():
    assert parse_overrides(["conv_bias=true", "depths=[1, 2]", "stem=deep", "bn_epsilon=1.001e-5"]) == {
        "conv_bias": True,
        "depths": [1, 2],
        "stem": "deep",
        "bn_epsilon": 1.001e-5,
    }


def test_a_built_backbone_is_converted_to(tmp_path):
    np.savez(tmp_path / "theirs.npz", **timm_state())
    backbone = tiny()
    done = convert(backbone, tmp_path / "theirs.npz", tmp_path / "ours.weights.h5", source="timm")
    assert (done.arrays, done.parameters) == (40, backbone.count_params())
