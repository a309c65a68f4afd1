"""``hf-hub:`` names, against a cache folder made here: nothing is asked of a network."""

from pathlib import Path

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.weights.places import parse_hub
from tests.support.nets import images
from tests.support.processes import run_python
from tests.weights.models import randomise_all_but_kernels, timm_state, tiny

COMMITS = {"main": "1" * 40, "v2": "2" * 40}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache as huggingface_hub lays it out, and no way to the Hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for revision, commit in COMMITS.items():
        reference = tmp_path / "models--somebody--resnet_tiny.a1" / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)
    return tmp_path


def put(cache, write, file="model.safetensors", revision="main"):
    path = cache / "models--somebody--resnet_tiny.a1" / "snapshots" / COMMITS[revision] / file
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)


def test_names_are_taken_apart():
    assert parse_hub("hf-hub:timm/resnet50.a1_in1k") == ("timm/resnet50.a1_in1k", None, "model.safetensors")
    assert parse_hub("hf-hub:a/b@v2") == ("a/b", "v2", "model.safetensors")
    assert parse_hub("hf-hub:a/b@v2/sub/c.npz") == ("a/b", "v2", "sub/c.npz")
    for wrong in ("hf-hub:", "hf-hub:resnet50", "hf-hub:a b/c", "hf-hub:/b"):
        with pytest.raises(ValueError, match="write 'hf-hub:owner/name'"):
            parse_hub(wrong)


def test_timms_file_in_the_cache_is_loaded(cache):
    import safetensors.numpy

    state = {name: np.asarray(value) for name, value in timm_state().items()}
    put(cache, lambda path: safetensors.numpy.save_file(state, path))
    backbone = tiny(weights="hf-hub:somebody/resnet_tiny.a1")
    np.testing.assert_array_equal(backbone.get_layer("stem_bn1").beta, state["bn1.bias"])


def test_revisions_and_files_are_told_apart(cache):
    first, second = randomise_all_but_kernels(tiny(), seed=1), randomise_all_but_kernels(tiny(), seed=2)
    put(cache, lambda path: rb.weights.save(first, path))
    put(cache, lambda path: rb.weights.save(second, path), revision="v2")
    put(cache, lambda path: rb.weights.save(second, path), "other.npz")
    x = images(2, 32, 32, 3)
    for name, expected in (("", first), ("@v2", second), ("/other.npz", second)):
        found = tiny(weights=f"hf-hub:somebody/resnet_tiny.a1{name}")
        np.testing.assert_array_equal(found(x), expected(x))


def test_what_is_not_in_the_cache_is_an_error_that_says_how_to_get_it(cache):
    with pytest.raises(FileNotFoundError, match="hf download somebody/resnet_tiny.a1 model.safetensors"):
        tiny(weights="hf-hub:somebody/resnet_tiny.a1")
    with pytest.raises(ValueError, match="weights come from a file ending in"):
        tiny(weights="hf-hub:somebody/resnet_tiny.a1/config.json")


def test_the_hubs_own_settings_of_the_cache_are_honoured(tmp_path):
    """In a process of its own, since huggingface_hub reads its environment when it is imported."""
    folder = tmp_path / "models--a--b"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("3" * 40)
    (folder / "snapshots" / ("3" * 40)).mkdir(parents=True)
    (folder / "snapshots" / ("3" * 40) / "model.safetensors").touch()
    code = (
        "import sys; from resnet_backbones.weights.places import fetch_hub; print(fetch_hub('hf-hub:a/b'));"
        "assert not {'tensorflow', 'keras', 'tf_keras'} & set(sys.modules)"
    )
    found = run_python(code, environment={"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    assert Path(found).name == "model.safetensors"
