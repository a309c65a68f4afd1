"""Weights from files of every kind, and into them."""

import io
import sys
import zipfile

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.weights import WeightsMismatchError
from resnet_backbones.weights.download import sha256_of
from tests.support.nets import assert_same, images, values
from tests.weights.models import SPEC, classifier, randomise_all_but_kernels, timm_state, tiny

OWN = ["weights.h5", "keras", "safetensors", "npz"]


def write(model, path):
    model.save(path) if path.suffix == ".keras" else rb.weights.save(model, path)
    return path


@pytest.mark.parametrize("ending", OWN)
def test_a_file_of_this_library_restores_the_weights(tmp_path, ending):
    backbone = randomise_all_but_kernels(tiny())
    path = write(backbone, tmp_path / f"mine.{ending}")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # nothing temporary is left
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(tiny(weights=path)(x), backbone(x))
    np.testing.assert_array_equal(tiny(weights=str(path), drop_path_rate=0.2)(x), backbone(x))


@pytest.mark.parametrize("ending", OWN)
def test_a_file_of_a_classifier_restores_its_head_and_serves_a_backbone(tmp_path, ending):
    model = randomise_all_but_kernels(classifier())
    path = write(model, tmp_path / f"mine.{ending}")
    x = images(2, 32, 32, 3)
    other = classifier()
    rb.weights.load(other, path)
    np.testing.assert_array_equal(other(x), model(x))
    if ending != "weights.h5":  # Keras' own files hold the whole model
        np.testing.assert_array_equal(tiny(weights=path)(x), model.layers[0](x))


def test_a_weights_file_of_a_backbone_fits_the_backbone_in_a_classifier(tmp_path):
    backbone, model = randomise_all_but_kernels(tiny()), classifier()
    rb.weights.save(backbone, tmp_path / "mine.weights.h5")
    rb.weights.load(model, tmp_path / "mine.weights.h5")
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(model.layers[0](x), backbone(x))


@pytest.mark.parametrize("ending", OWN)
def test_a_file_for_three_channels_adapts_the_stem_of_another_number(tmp_path, ending):
    backbone = randomise_all_but_kernels(tiny())
    path = write(backbone, tmp_path / f"mine.{ending}")
    x = images(2, 32, 32, 1)
    grey = tiny(channels=1, weights=path)(x)
    np.testing.assert_allclose(grey, backbone(np.repeat(x, 3, axis=-1)), rtol=1e-4, atol=1e-4)
    five = np.asarray(tiny(channels=5, weights=path).get_layer("stem_conv1").kernel)
    np.testing.assert_allclose(five[:, :, 3], five[:, :, 0])


def test_weights_of_a_compiled_and_trained_backbone_load(tmp_path):
    backbone = tiny(drop_path_rate=0.1)
    backbone.compile("adam", "mse")
    backbone.fit(images(2, 32, 32, 3), images(2, 4, 4, 8), verbose=0)
    backbone.save_weights(tmp_path / "trained.weights.h5")
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(tiny(weights=tmp_path / "trained.weights.h5")(x), backbone(x))


@pytest.mark.parametrize("ending", OWN)
@pytest.mark.parametrize(
    ("other", "title", "item"),
    [
        (SPEC.replace(depths=(1, 1)), "unexpected", ""),
        (SPEC.replace(depths=(2, 2)), "missing", "block2_"),
        (SPEC.replace(widths=(4, 16)), "of another shape", "stage2_block1_"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error_and_changes_nothing(tmp_path, ending, other, title, item):
    path = write(randomise_all_but_kernels(tiny()), tmp_path / f"mine.{ending}")
    wanting = tiny(other)
    before = values(wanting)
    with pytest.raises(WeightsMismatchError, match=rf"(?s)\d+ {title}:\n.*{item}"):
        rb.weights.load(wanting, path)
    assert_same(before, values(wanting))


@pytest.mark.parametrize("ending", OWN)
def test_skipping_mismatches_loads_what_fits_of_a_file(tmp_path, ending):
    model = randomise_all_but_kernels(classifier())
    path = write(model, tmp_path / f"mine.{ending}")
    other = classifier(classes=4)
    head = values(other.get_layer("predictions"))
    with pytest.warns(UserWarning, match=r"(?s)in part.*2 of another shape:.*\(8, 10\), not \(8, 4\)"):
        rb.weights.load(other, path, skip_mismatch=True)
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(other.layers[0](x), model.layers[0](x))
    assert_same(head, values(other.get_layer("predictions")))


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
def test_files_by_timms_names_are_recognised(tmp_path, ending):
    state, path = timm_state(), tmp_path / f"theirs.{ending}"
    if ending == "safetensors":
        import safetensors.numpy

        safetensors.numpy.save_file({name: np.asarray(value) for name, value in state.items()}, path)
    else:
        np.savez(path, **{name: value.astype("float16") for name, value in state.items()})
    model = classifier()
    rb.weights.load(model, path)
    np.testing.assert_allclose(model.get_layer("predictions").kernel, state["fc.weight"].T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        model.layers[0].get_layer("stage2_block1_shortcut_conv").kernel,
        state["layer2.0.downsample.0.weight"].transpose(2, 3, 1, 0),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize(
    ("module", "file", "advice"),
    [
        ("torch", "weights.pt", r'pip install "resnet-backbones\[torch\]"'),
        ("safetensors", "weights.safetensors", r'pip install "resnet-backbones\[weights\]"'),
        ("huggingface_hub", "hf-hub:timm/resnet50.a1_in1k", r'pip install "resnet-backbones\[weights\]"'),
    ],
)
def test_a_missing_package_is_an_error_that_names_what_brings_it(tmp_path, monkeypatch, module, file, advice):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / file.partition("/")[0]).touch()
    with pytest.raises(ImportError, match=advice):
        rb.weights.load(tiny(), file if ":" in file else tmp_path / file)


def test_nothing_is_unpickled(tmp_path):
    """A file that would run code when it is unpickled."""

    class Trap:
        def __reduce__(self):
            return (exec, ("import builtins; builtins.trap_sprung = True",))

    array = io.BytesIO()
    np.lib.format.write_array(array, np.array([Trap()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "trap.npz", "w") as archive:
        archive.writestr("stem_conv1.kernel.npy", array.getvalue())
    with pytest.raises(ValueError, match="cannot be read as an? npz"):
        rb.weights.load(tiny(), tmp_path / "trap.npz")
    import builtins

    assert not hasattr(builtins, "trap_sprung")


@pytest.mark.parametrize("ending", [*OWN, "h5"])
def test_a_file_that_is_no_weights_file_is_an_error(tmp_path, ending):
    path = tmp_path / f"broken.{ending}"
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="cannot be read as a"):
        rb.weights.load(tiny(), path)


def test_files_that_are_not_there_or_of_another_kind_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no weights file"):
        rb.weights.load(tiny(), tmp_path / "absent.weights.h5")
    with pytest.raises(ValueError, match=r"weights come from a file ending in \.weights\.h5, \.keras, \.safetensors"):
        rb.weights.load(tiny(), tmp_path / "weights.onnx")
    with pytest.raises(
        ValueError, match=r"weights are written to a file ending in \.safetensors, \.npz, \.weights\.h5"
    ):
        rb.weights.save(tiny(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"build it there and give it to weights\.from_torchvision"):
        rb.weights.load(tiny(), "torchvision:ResNet50_Weights.IMAGENET1K_V2")


def test_a_file_with_another_sum_is_an_error_that_shows_both(tmp_path):
    path = write(tiny(), tmp_path / "mine.npz")
    rb.weights.load(tiny(), path, sha256=sha256_of(path).upper())
    with pytest.raises(ValueError, match=rf"wanted {'0' * 64}\n  sha256 found  {sha256_of(path)}"):
        rb.weights.load(tiny(), path, sha256="0" * 64)
    assert path.exists()  # the user's own file
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        rb.weights.load(tiny(), path, sha256="abc")


def test_saving_what_a_format_cannot_hold_is_an_error(tmp_path):
    backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, 3))
    detector = rb.adapters.keras_cv.retinanet(backbone, num_classes=2, bounding_box_format="xywh")
    with pytest.raises(ValueError, match="'retina_net.*' has more"):
        rb.weights.save(detector, tmp_path / "detector.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_safetensors_file_says_what_it_is_for(tmp_path):
    import json

    from safetensors import safe_open

    rb.weights.save(tiny(), tmp_path / "mine.safetensors")
    with safe_open(tmp_path / "mine.safetensors", "numpy") as file:
        about = file.metadata()
    assert rb.ResNetSpec.from_dict(json.loads(about["spec"])) == SPEC
