"""torch's own files, and timm's rule for the channels of the stem."""

import pickle

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from timm.models._manipulate import adapt_input_conv

import resnet_backbones as rb
from resnet_backbones.weights.transfer import adapt_input_channels
from tests.weights.models import classifier, timm_state, tiny


@pytest.mark.parametrize("ending", ["pt", "pth", "bin"])
def test_torch_files_are_read_and_recognised(tmp_path, ending):
    state, path = timm_state(), tmp_path / f"theirs.{ending}"
    torch.save({"state_dict": {name: torch.as_tensor(value).half() for name, value in state.items()}}, path)
    model = classifier()
    rb.weights.load(model, path)
    head = np.asarray(model.get_layer("predictions").kernel)
    np.testing.assert_array_equal(head, state["fc.weight"].T.astype("float16"))


def test_bfloat16_is_read_from_safetensors(tmp_path):
    state = {name: torch.as_tensor(value).bfloat16() for name, value in timm_state().items()}
    safetensors.torch.save_file(state, tmp_path / "half.safetensors")
    backbone = tiny(weights=tmp_path / "half.safetensors")
    np.testing.assert_array_equal(backbone.get_layer("stem_bn1").beta, state["bn1.bias"].float().numpy())


class Trap:
    def __reduce__(self):
        return (exec, ("import builtins; builtins.trap_sprung = True",))


def test_nothing_is_unpickled_from_torch_files(tmp_path):
    import builtins

    (tmp_path / "trap.pt").write_bytes(pickle.dumps({"conv1.weight": Trap()}))
    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    for name in ("trap.pt", "trap.pth"):
        with pytest.raises(ValueError, match="nothing else is unpickled: save model.state_dict"):
            rb.weights.load(tiny(), tmp_path / name)
    assert not hasattr(builtins, "trap_sprung")


def test_a_torch_file_without_a_state_dict_is_an_error(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match="holds a Tensor; weights are a state_dict"):
        rb.weights.load(tiny(), tmp_path / "tensor.pt")
    (tmp_path / "broken.pt").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="cannot be read as a torch file"):
        rb.weights.load(tiny(), tmp_path / "broken.pt")


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 13])
def test_the_stem_is_adapted_as_timm_does(channels):
    kernel = np.random.default_rng(0).normal(size=(7, 7, 3, 8)).astype("float32")
    expected = adapt_input_conv(channels, torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
    ours = adapt_input_channels(kernel, (7, 7, channels, 8))
    np.testing.assert_allclose(ours, expected.numpy().transpose(2, 3, 1, 0), rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_model_of_other_channels_equals_timms_that_adapted_the_same_weights(tmp_path, channels):
    reference = timm.create_model("resnet10t", pretrained=False)
    safetensors.torch.save_file(reference.state_dict(), tmp_path / "model.safetensors")
    theirs = timm.create_model(
        "resnet10t",
        pretrained=True,
        in_chans=channels,
        pretrained_cfg_overlay={"file": str(tmp_path / "model.safetensors")},
        num_classes=0,
    ).eval()
    backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, channels), weights=tmp_path / "model.safetensors")
    x = np.random.default_rng(1).normal(size=(2, 64, 64, channels)).astype("float32")
    with torch.no_grad():
        expected = theirs.forward_features(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    expected = expected.transpose(0, 2, 3, 1)
    assert np.abs(np.asarray(backbone(x)) - expected).max() / np.abs(expected).max() < 1e-4
