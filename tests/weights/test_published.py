"""Weights bring their preprocessing, exactly once."""

import json
import re
import warnings

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.backbones import catalogue as sources
from resnet_backbones.backbones.spec_values import PREPROCESSINGS
from resnet_backbones.weights.places import pixels_for, source_of
from tests.support.nets import values
from tests.weights.models import SPEC, classifier, randomise_all_but_kernels, timm_state, tiny

COMMIT = "1" * 40
SOURCE = "hf-hub:somebody/tiny.a1"


@pytest.fixture
def hub(tmp_path, monkeypatch, registry_as_it_was):
    """A backbone `tiny_published` whose weights lie in a cache of the Hub; nothing is asked of a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("RESNET_BACKBONES_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "hub" / "models--somebody--tiny.a1"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    import safetensors.numpy

    backbone = randomise_all_but_kernels(tiny())
    from resnet_backbones.weights.targets import find_target

    arrays = {slot.name: np.ascontiguousarray(slot.value) for slot in find_target(backbone).slots()}
    safetensors.numpy.save_file(arrays, folder / "snapshots" / COMMIT / "model.safetensors")
    rb.register_backbone("tiny_published", SPEC, weights=[SOURCE, "torchvision:None"], preprocessing="imagenet")
    return folder, backbone


def pictures(seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


def normalised(images):
    imagenet = PREPROCESSINGS["imagenet"]
    return images * np.float32(imagenet.scale) + np.float32(imagenet.offset)


@pytest.mark.parametrize("how", [{"pretrained": True}, {"weights": SOURCE}, {"weights": f"{SOURCE}@{COMMIT}"}])
def test_known_weights_bring_their_preprocessing_and_a_line_says_so(hub, capsys, how):
    _, plain = hub
    backbone = rb.create_backbone("tiny_published", input_shape=(32, 32, 3), **how)
    said = capsys.readouterr().err
    assert "does preprocessing='imagenet' itself (preprocessing=None turns it off)" in said
    assert ("licence: not known here" in said) == ("pretrained" in how)
    np.testing.assert_allclose(backbone(pictures()), plain(normalised(pictures())), rtol=1e-4, atol=1e-4)
    off = rb.create_backbone("tiny_published", input_shape=(32, 32, 3), preprocessing=None, **how)
    assert "preprocessing" not in capsys.readouterr().err
    np.testing.assert_array_equal(off(normalised(pictures())), plain(normalised(pictures())))
    chosen = rb.create_backbone("tiny_published", input_shape=(32, 32, 3), preprocessing="zero_to_one", **how)
    assert chosen.spec.preprocessing == PREPROCESSINGS["zero_to_one"]


def test_pretrained_stays_at_the_revision_first_taken(hub, capsys):
    folder, _ = hub
    rb.create_backbone("tiny_published", input_shape=(32, 32, 3), pretrained=True)
    assert f"{SOURCE}@{COMMIT}/model.safetensors" in capsys.readouterr().err
    (folder / "refs" / "main").write_text("2" * 40)  # which is not in the cache
    rb.create_backbone("tiny_published", input_shape=(32, 32, 3), pretrained=True)
    with pytest.raises(FileNotFoundError):
        rb.create_backbone("tiny_published", weights=SOURCE)


def test_pretrained_that_cannot_be_is_an_error(hub):
    with pytest.raises(ValueError, match="no published weights of backbone"):
        rb.create_backbone("cbamresnet18", pretrained=True)
    with pytest.raises(ValueError, match="build it there and give it to"):
        rb.create_backbone("keras_resnet50", pretrained=True)
    for wrong in ((SPEC, {}), ("resnet18", {"weights": "x.npz"})):
        with pytest.raises(TypeError, match="leave out weights="):
            rb.create_backbone(wrong[0], pretrained=True, **wrong[1])


@pytest.mark.parametrize("word", ["num_classes", "classes", "include_top"])
def test_a_classifier_is_the_adapters_affair(word):
    with pytest.raises(TypeError, match=r"builds no classifier.*image_classifier\("):
        rb.create_backbone("resnet18", **{word: 10})


@pytest.mark.parametrize("ending", ["npz", "weights.h5"])
def test_a_plain_file_warns_unless_something_was_chosen(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    rb.weights.save(tiny(), path)
    with pytest.warns(UserWarning, match="nothing says how the weights in .* want their images") as seen:
        rb.create_backbone(SPEC, input_shape=(32, 32, 3), weights=path)
    assert [one.filename for one in seen if "nothing says" in str(one.message)] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for chosen in (None, "imagenet", {"scale": 0.5}):
            rb.create_backbone(SPEC, input_shape=(32, 32, 3), weights=path, preprocessing=chosen)
        rb.create_backbone(SPEC.replace(preprocessing="imagenet"), input_shape=(32, 32, 3), weights=path)


@pytest.mark.parametrize("chosen", [None, "imagenet", {"scale": 0.5, "offset": -1.0}])
def test_our_safetensors_record_it(tmp_path, chosen):
    written = randomise_all_but_kernels(tiny(SPEC.replace(preprocessing=chosen)))
    rb.weights.save(written, tmp_path / "x.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        read = rb.create_backbone(SPEC, input_shape=(32, 32, 3), weights=tmp_path / "x.safetensors")
    assert read.spec.preprocessing == written.spec.preprocessing
    np.testing.assert_array_equal(read(pictures()), written(pictures()))


def test_other_channels_than_three_warn(hub):
    with pytest.warns(
        UserWarning, match="wants images of 3 channels with preprocessing='imagenet'; for 1 there is none"
    ):
        rb.create_backbone("tiny_published", input_shape=(32, 32, 1), weights=SOURCE)


@pytest.mark.usefixtures("hub")
def test_an_adapter_does_not_normalise_again():
    once = rb.create_backbone("tiny_published", input_shape=(32, 32, 3), weights=SOURCE)
    outside = rb.create_backbone("tiny_published", input_shape=(32, 32, 3), weights=SOURCE, preprocessing=None)
    first = rb.adapters.keras_cv.image_classifier(once, 3)
    second = rb.adapters.keras_cv.image_classifier(outside, 3)
    second.get_layer("predictions").set_weights(first.get_layer("predictions").get_weights())
    np.testing.assert_allclose(first(pictures()), second(normalised(pictures())), rtol=1e-4, atol=1e-4)
    assert len(values(first)) == len(values(second))


@pytest.mark.parametrize(
    ("data", "warned"),
    [(pictures(), False), (pictures() / 255, True), (pictures() / 127.5 - 1, True), (normalised(pictures()), True)],
    ids=["0 to 255", "0 to 1", "-1 to 1", "imagenet"],
)
def test_calibration_data_that_looks_normalised_is_not_normalised_twice_in_silence(data, warned):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for chosen in ("imagenet", None):
            model = tiny(SPEC.replace(preprocessing=chosen))
            rb.quantize_post_training(model, "edge_int8", calibration_data=data)
    said = [one for one in seen if "looks normalised already" in str(one.message)]
    assert len(said) == warned


def test_what_timm_says_of_pixels_and_licences():
    assert sources.pixels_of("hf-hub:timm/resnet50.a1_in1k", "imagenet") == "imagenet"
    assert sources.pixels_of("hf-hub:timm/resnet34.ra4_e3600_r224_in1k", "imagenet") == "minus_one_to_one"
    expected = {
        "resnet50.a1_in1k": "apache-2.0",
        "resnet50.tv2_in1k": "bsd-3-clause",
        "resnext101_32x16d.fb_wsl_ig1b_ft_in1k": "cc-by-nc-4.0 (no commercial use)",
        "regnetx_002.pycls_in1k": "mit",
        "res2net50d.in1k": "unknown to timm",
        "resnet50.bamboo": "not stated",
    }
    assert {name: sources.licence_of(f"hf-hub:timm/{name}") for name in expected} == expected
    assert pixels_for("hf-hub:timm/resnet18d.ra4_e3600_r224_in1k@main").name == "'minus_one_to_one'"
    assert source_of("hf-hub:a/b@v2/c.npz") == "hf-hub:a/b/c.npz"
    assert json.loads(json.dumps(pixels_for("hf-hub:timm/resnet50.a1_in1k").preprocessing.to_dict()))


def built(spec=SPEC, **chosen):
    return rb.create_backbone(spec, input_shape=(32, 32, 3), **chosen)


IMAGENET = SPEC.replace(preprocessing="imagenet")
#: What loading into a backbone that is there already says, by how it was built: known weights, unknown ones.
SAYS = {
    "as it comes": (built, "want images of 0 to 255 with preprocessing='imagenet'; .* takes images as", "nothing says"),
    "nothing chosen": (lambda: built(preprocessing=None), None, None),
    "another chosen": (lambda: built(preprocessing="zero_to_one"), None, None),
    "the spec's": (lambda: built(IMAGENET), None, None),
    "another spec's": (
        lambda: built(SPEC.replace(preprocessing="zero_to_one")),
        "preprocessing='imagenet'; .* normalises otherwise",
        None,
    ),
    "in a classifier": (lambda: classifier(built()), "takes images as they are", "nothing says"),
}


@pytest.mark.parametrize("how", SAYS)
def test_loading_into_a_backbone_says_once_what_images_the_weights_want(hub, tmp_path, how):
    make, known, unknown = SAYS[how]
    _, plain = hub
    rb.weights.save(plain, tmp_path / "x.npz")
    with_head = how == "in a classifier"
    state = {name: value for name, value in timm_state().items() if with_head or not name.startswith("fc.")}
    for load, expected in (
        (lambda model: rb.weights.load(model.layers[0] if with_head else model, SOURCE), known),
        (lambda model: rb.weights.load(model.layers[0] if with_head else model, tmp_path / "x.npz"), unknown),
        (lambda model: rb.weights.from_timm(model, state), unknown),
        (lambda model: rb.weights.from_torchvision(model, state), unknown),
    ):
        model = make()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            load(model)
        said = [(str(one.message), one.filename) for one in seen if "images" in str(one.message)]
        assert len(said) == (expected is not None), said
        for text, file in said:
            assert re.search(expected, text)
            assert "create_backbone(..., preprocessing='imagenet'" in text
            assert file == __file__


@pytest.mark.parametrize("doubt", [True, False])
def test_a_file_records_no_preprocessing_that_nobody_knows(tmp_path, doubt):
    state = {name: value for name, value in timm_state().items() if not name.startswith("fc.")}
    backbone = built(preprocessing="auto" if doubt else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rb.weights.from_timm(backbone, state)
    rb.weights.save(backbone, tmp_path / "x.safetensors")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        built(weights=tmp_path / "x.safetensors")
    assert bool([one for one in seen if "nothing says" in str(one.message)]) == doubt


@pytest.mark.parametrize("chosen", [None, "imagenet"])
def test_a_keras_file_says_what_its_backbone_does(tmp_path, chosen):
    built(preprocessing=chosen).save(tmp_path / "x.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert built(weights=tmp_path / "x.keras").spec.preprocessing == PREPROCESSINGS.get(chosen)
        rb.weights.load(built(SPEC.replace(preprocessing=chosen)), tmp_path / "x.keras")
